from __future__ import annotations

import pytest

from tests.models import lively_model, portrait, speech, tiniest, tiniest_avatar
from vivavoz.engine.pool import StreamPool
from vivavoz.errors import AudioError, CapacityError, ConfigError


def test_pushing_computes_nothing_and_a_step_makes_a_block() -> None:
    pool = StreamPool(tiniest_avatar().model, max_streams=2)
    stream = pool.open(tiniest_avatar())
    stream.push(speech(40_000))
    assert stream.take() == []
    assert pool.step() == 1
    assert [frame.index for frame in stream.take()] == list(range(13))  # four latents, the first of one picture
    assert stream.take() == []
    assert pool.step() == 1
    assert [frame.index for frame in stream.take()] == list(range(13, 29))


def test_without_sound_enough_nothing_moves() -> None:
    pool = StreamPool(tiniest_avatar().model, max_streams=2)
    assert pool.step() == 0
    stream = pool.open(tiniest_avatar())
    stream.push(speech(5_000))
    assert pool.step() == 0
    stream.flush()
    assert not stream.is_done
    assert pool.step() == 1
    assert not stream.is_done
    assert len(stream.take()) == 8
    assert stream.is_done
    assert pool.step() == 0


def test_a_full_pool_says_so_and_a_closed_stream_makes_room() -> None:
    pool = StreamPool(tiniest_avatar().model, max_streams=2)
    first, _ = pool.open(tiniest_avatar()), pool.open(tiniest_avatar())
    with pytest.raises(CapacityError, match="2 streams are open"):
        pool.open(tiniest_avatar())
    first.close()
    assert len(pool) == 1
    pool.open(tiniest_avatar())
    pool.close()
    assert len(pool) == 0


def test_a_closed_stream_is_silent() -> None:
    pool = StreamPool(tiniest_avatar().model, max_streams=2)
    stream = pool.open(tiniest_avatar())
    stream.push(speech(40_000))
    pool.step()
    stream.close()
    assert stream.is_done
    assert stream.take() == []
    assert pool.step() == 0
    with pytest.raises(AudioError, match="stream that is closed"):
        stream.push(speech(10))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_streams is 0"):
        StreamPool(tiniest_avatar().model, max_streams=0)
    pool = StreamPool(tiniest_avatar().model, max_streams=1)
    with pytest.raises(ConfigError, match="another model"):
        pool.open(lively_model(tiniest()).avatar(portrait(), crop="none"))
    with pytest.raises(ConfigError, match="seed is -1"):
        pool.open(tiniest_avatar(), seed=-1)
    assert len(pool) == 0
