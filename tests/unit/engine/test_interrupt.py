from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.models import images, lively_model, play, portrait, speech, tiniest, tiniest_avatar
from vivavoz.engine.conversation import Interruption
from vivavoz.engine.pool import StreamPool
from vivavoz.vae.vae import DecoderState, References


def test_the_clock_says_what_was_dropped() -> None:
    with tiniest_avatar().stream(block_latents=1, sample_rate_hz=32_000) as stream:
        frames = stream.push(np.repeat(speech(8_000), 2))  # half a second: 2 latents' look-ahead does not fit
        taken = [next(frames) for _ in range(3)]
        dropped = stream.interrupt()
        # Pictures 0; 1 to 4 were made.
        assert dropped == Interruption(num_frames=2, sound_s=Fraction(1, 2) - Fraction(5, 25), time=Fraction(1, 2))
        assert list(frames) == []
        later = [*stream.push(np.repeat(speech(8_000, 1), 2)), *stream.flush()]
    assert [frame.index for frame in taken] == [0, 1, 2]
    assert [frame.index for frame in later] == list(range(5, 5 + 13))  # half a second, rounded up
    assert [frame.time for frame in later] == [Fraction(1, 2) + Fraction(i, 25) for i in range(13)]


def test_nothing_of_the_dropped_sound_is_heard() -> None:
    """After an interruption the pictures do not depend on what had been pushed and not shown."""
    results = []
    for seed in (1, 2):
        with tiniest_avatar().stream(block_latents=1) as stream:
            frames = stream.push(speech(8_000))
            for _ in range(9):
                next(frames)
            stream.push(speech(6_000, seed))
            stream.interrupt()
            results.append(images([*stream.push(speech(12_000, 5)), *stream.flush()]))
    assert np.array_equal(*results)


def test_the_face_goes_on_and_does_not_start_again() -> None:
    """The generator keeps its past: what follows is neither a fresh stream's nor that after other sound."""
    after = []
    for seed in (1, 2):
        with tiniest_avatar().stream(block_latents=1) as stream:
            list(stream.push(speech(12_000, seed)))
            stream.interrupt()
            assert stream.state.generator.video_latents > 0
            after.append(images([*stream.push(speech(12_000, 5)), *stream.flush()]))
    fresh = images(play(tiniest_avatar().stream(block_latents=1), speech(12_000, 5)))
    assert not np.array_equal(*after)
    assert after[0].shape == fresh.shape
    assert not np.array_equal(after[0], fresh)


def test_a_flushed_stream_takes_sound_again() -> None:
    with tiniest_avatar().stream() as stream:
        assert len([*stream.push(speech(6_400)), *stream.flush()]) == 10
        dropped = stream.interrupt()
        assert dropped == Interruption(num_frames=0, sound_s=Fraction(0), time=Fraction(10, 25))
        frames = [*stream.push(speech(6_400, 1)), *stream.flush()]
    assert [frame.time for frame in frames] == [Fraction(i, 25) for i in range(10, 20)]


@pytest.mark.parametrize("num_times", [1, 3])
def test_interrupting_before_anything_was_said_changes_nothing(num_times: int) -> None:
    expected = images(play(tiniest_avatar().stream(), speech(9_000)))
    with tiniest_avatar().stream() as stream:
        for _ in range(num_times):
            stream.interrupt()
        assert np.array_equal(images([*stream.push(speech(9_000)), *stream.flush()]), expected)


def test_a_block_under_way_is_dropped_too() -> None:
    model = lively_model(tiniest())
    decode_first = model.runtime.decode_first

    def interrupted(z: torch.Tensor, references: References, state: DecoderState) -> torch.Tensor:
        assert stream.interrupt().sound_s == Fraction(12_000, 16_000)
        return decode_first(z, references, state)

    model.runtime = replace(model.runtime, decode_first=interrupted)
    pool = StreamPool(model, max_streams=1)
    stream = pool.open(model.avatar(portrait(), crop="none"))
    stream.push(speech(12_000))
    assert pool.step() == 1
    assert stream.take() == []
    stream.push(speech(13_000))
    assert pool.step() == 1
    frames = stream.take()
    assert (frames[0].index, frames[0].time, len(frames)) == (0, Fraction(3, 4), 16)
