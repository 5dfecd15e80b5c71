from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.models import images, lively_model, picturewise, play, portrait, speech, tiniest, tiniest_avatar
from vivavoz.engine.conversation import Conversation, Interruption
from vivavoz.engine.pool import StreamPool
from vivavoz.errors import AudioError, ConfigError
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

    def interrupted(z: torch.Tensor, references: References, state: DecoderState) -> Iterable[torch.Tensor]:
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


def test_a_block_that_nobody_wants_any_more_is_given_up_before_it_is_decoded() -> None:
    """As if it had never been begun: what follows is what a stream shows that was interrupted between two blocks."""

    def shown(*, mid_block: bool) -> NDArray[np.uint8]:
        model = lively_model(tiniest())
        pool = StreamPool(model, max_streams=1)
        stream = pool.open(model.avatar(portrait(), crop="none"), sampling=replace(model.preset.sampling, block_latents=1))
        velocity, num_decoded = model.runtime.velocity, []

        def interrupted(*arguments: Any) -> torch.Tensor:
            stream.interrupt()
            return velocity(*arguments)

        def decode(*arguments: Any) -> torch.Tensor:
            num_decoded.append(1)
            return plain.decode(*arguments)

        plain = model.runtime
        stream.push(speech(4_000))
        pool.step()
        stream.take()
        model.runtime = pool._runtime = replace(plain, velocity=interrupted if mid_block else velocity, decode=decode)
        rng = stream.rng.get_state()
        if mid_block:
            stream.push(speech(2_600, 1))
            assert pool.step() == 1
            assert (stream.take(), num_decoded) == ([], [])
        else:
            stream.interrupt()
        pool._runtime = plain
        stream.rng.set_state(rng)
        stream.push(speech(12_000, 2))
        while pool.step():
            pass
        return images(stream.take())

    assert np.array_equal(shown(mid_block=True), shown(mid_block=False))


def test_an_interrupted_block_ends_with_the_latent_that_was_being_decoded() -> None:
    model = lively_model(tiniest())
    plain = model.runtime
    num_decoded: list[int] = []

    def decode(z: torch.Tensor, references: References, state: DecoderState) -> Iterable[torch.Tensor]:
        num_decoded.append(z.shape[2])
        if len(num_decoded) == 2:
            stream.interrupt()
        return plain.decode(z, references, state)

    model.runtime = replace(plain, decode_latents=1, decode=decode)
    pool = StreamPool(model, max_streams=1)
    stream = pool.open(model.avatar(portrait(), crop="none"))
    stream.push(speech(16_000))
    assert pool.step() == 1
    assert (num_decoded, stream.take(), stream.num_latents) == ([1, 1], [], 3)
    stream.push(speech(20_000, 1))
    assert pool.step() == 1
    assert (len(stream.take()), stream.num_latents, stream.state.generator.video_latents) == (16, 7, 3)


@pytest.mark.parametrize("overlap", [False, True])
def test_pictures_are_ready_before_their_block_is_and_the_first_after_an_interruption_are_decoded_alone(overlap: bool) -> None:
    model = lively_model(picturewise())
    model.use_runtime("cpu")
    pool = StreamPool(model, max_streams=1, overlap=overlap)
    stream = pool.open(model.avatar(portrait(), crop="none"), sampling=replace(model.preset.sampling, block_latents=1))
    num_taken: list[int] = []
    stream.on_pictures = lambda: num_taken.append(len(stream.take()))
    in_steps, num_decoded = model.vae.fields_in_steps, []

    def counted(codes: torch.Tensor, *others: Any) -> Any:
        num_decoded.append(codes.shape[2])
        return in_steps(codes, *others)

    model.vae.fields_in_steps = counted  # type: ignore[method-assign]
    stream.push(speech(10_000))
    while pool.step():
        pass
    assert num_taken == [1, 2, 2, 2, 2]
    stream.interrupt()
    stream.push(speech(16_000))
    while pool.step():
        pass
    assert num_taken[5:] == [1, 1, *9 * [2]]
    assert num_decoded == [1, 4, 4, 1, 1, 2, 4, 4, 4, 4]


def test_an_interruption_leaves_the_rest_of_a_latent_unmade_and_nothing_misses_it() -> None:
    def shown(*, mid_latent: bool) -> NDArray[np.uint8]:
        model = lively_model(picturewise())
        model.use_runtime("cpu")
        pool = StreamPool(model, max_streams=1)
        stream = pool.open(model.avatar(portrait(), crop="none"), sampling=replace(model.preset.sampling, block_latents=1))
        num_taken: list[int] = []

        def came() -> None:
            num_taken.append(len(stream.take()))
            if mid_latent:
                stream.interrupt()

        stream.push(speech(4_000))
        assert pool.step() == 1
        stream.interrupt()
        stream.on_pictures = came
        stream.push(speech(6_000, 1))
        assert pool.step() == 1
        assert num_taken == ([1] if mid_latent else [1, 1, 2])
        if not mid_latent:
            stream.interrupt()
        stream.on_pictures = None
        stream.push(speech(12_000, 2))
        while pool.step():
            pass
        return images(stream.take())

    assert np.array_equal(shown(mid_latent=True), shown(mid_latent=False))


def test_skipped_pictures_are_counted_and_their_sound_is_heard() -> None:
    """The next picture's features are those it would have had; nothing else is made."""
    pool = StreamPool(tiniest_avatar().model, max_streams=2)
    sampling = replace(tiniest().sampling, block_latents=1)
    whole, jumping = (pool.open(tiniest_avatar(), sampling=sampling) for _ in range(2))
    heard: dict[Conversation, list[torch.Tensor]] = {whole: [], jumping: []}
    for stream in (whole, jumping):
        hear = stream.hear

        def kept(features: torch.Tensor, stream: Conversation = stream, hear: Any = hear) -> None:
            heard[stream].append(features)
            hear(features)

        stream.hear = kept  # type: ignore[method-assign]
    sound = speech(20_000)
    whole.push(sound)
    jumping.push(sound[:3_000])
    pool.step()
    jumping.skip(6)
    jumping.push(sound[3_000:])
    while pool.step():
        pass
    shown = [frame.index for frame in jumping.take()]
    assert shown == [0, *range(7, 7 + len(shown) - 1)]
    assert [part.shape[1] for part in heard[jumping][:3]] == [1, 6, 4]
    ours, theirs = (torch.cat(heard[stream], 1)[:, :25] for stream in (jumping, whole))
    assert torch.allclose(ours, theirs, atol=1e-5)
    jumping.features.append(ours)
    with pytest.raises(AudioError, match="before their sound"):
        jumping.skip(1)


def test_blocks_may_change_their_size_as_they_go() -> None:
    """Also where a window has no room for one that grew after its forerunner was given up."""
    model = lively_model(tiniest())
    pool = StreamPool(model, max_streams=1)
    stream = pool.open(model.avatar(portrait(), crop="none"))
    stream.push(speech(150_000))
    sizes = [1, 2, 4, 1, 1, 4, 2, 1, 4, 4, 1, 2] * 2
    for size in sizes:
        stream.use(num_steps=2, block_latents=size)
        assert pool.step() == 1
        if size == 1:
            stream.uncommitted = None  # given up
    assert len(stream.take()) == 4 * sum(sizes) - 3
    with pytest.raises(ConfigError, match="block_latents is 8"):
        stream.use(num_steps=2, block_latents=8)


@pytest.mark.parametrize("num_steps", range(4))
def test_an_interruption_leaves_the_fields_of_pictures_unfinished_and_nothing_misses_them(num_steps: int) -> None:
    """After D1 and D_ref, or after so many of the warp's resolutions."""

    def shown(*, mid_fields: bool) -> NDArray[np.uint8]:
        model = lively_model(picturewise())
        model.use_runtime("cpu")
        pool = StreamPool(model, max_streams=1)
        stream = pool.open(model.avatar(portrait(), crop="none"), sampling=replace(model.preset.sampling, block_latents=1))
        in_steps, ends = model.vae.fields_in_steps, []

        def interrupted(*arguments: Any) -> Any:
            for number, fields in enumerate(in_steps(*arguments)):
                if number == num_steps:
                    stream.interrupt()
                yield fields
            ends.append(number)

        stream.push(speech(4_000))
        assert pool.step() == 1
        stream.take()
        if mid_fields:
            model.vae.fields_in_steps = interrupted  # type: ignore[method-assign]
        stream.push(speech(6_000, 1))
        assert pool.step() == 1
        assert len(stream.take()) == (0 if mid_fields else 4)
        assert not ends, "what nobody waits for was made to its end"
        model.vae.fields_in_steps = in_steps  # type: ignore[method-assign]
        stream.interrupt()
        stream.push(speech(12_000, 2))
        while pool.step():
            pass
        return images(stream.take())

    assert np.array_equal(shown(mid_fields=True), shown(mid_fields=False))
