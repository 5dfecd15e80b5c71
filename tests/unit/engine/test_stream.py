from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models import images, lively_model, play, portrait, speech, tiniest, tiniest_avatar
from vivavoz.engine.controls import ControlTrack, StreamControls
from vivavoz.errors import AudioError, ConfigError
from vivavoz.evaluate.speaking import speak
from vivavoz.nn.stream import StreamState
from vivavoz.timing import frames_of_latents


@pytest.mark.parametrize("num_samples", [0, 1, 639, 640, 641, 5 * 640, 13 * 640 - 1, 13 * 640 + 1, 40_000])
@pytest.mark.parametrize("block_latents", [1, 2, 4])
def test_pictures_last_as_long_as_the_sound(num_samples: int, block_latents: int) -> None:
    frames = play(tiniest_avatar().stream(block_latents=block_latents), speech(num_samples))
    assert [frame.index for frame in frames] == list(range(math.ceil(num_samples / 640)))
    assert all(frame.image.shape == (64, 64, 3) and frame.image.dtype == np.uint8 for frame in frames)


def test_the_seed_decides() -> None:
    sound = speech(4_000)
    first, again, other = (images(play(tiniest_avatar().stream(seed=seed), sound)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_sound_decides() -> None:
    one, other = (images(play(tiniest_avatar().stream(), speech(4_000, seed))) for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_latents_stay_near_their_own_portraits_where_they_would_drift() -> None:
    preset = tiniest()
    free, homed = (
        lively_model(replace(preset, generator=replace(preset.generator, homing=homing)))
        for homing in ((), ((1, 1.0), (3, 0.25)))
    )
    sound = speech(40 * 640)
    for person in (0, 1):
        home = homed.avatar(portrait(person), crop="none").references.latents[0, 0, :, None]
        as_drawn, near = (speak(model, portrait(person), sound, seed=0).latents[0] for model in (free, homed))
        assert torch.equal(near[1], home[1].expand_as(near[1])), "held still throughout"
        first = slice(0, 4)  # the first block has no past that could differ
        torch.testing.assert_close(near[3, first], 0.75 * as_drawn[3, first] + 0.25 * home[3])
        others = [channel for channel in range(8) if channel not in (1, 3)]
        assert torch.equal(near[others, first], as_drawn[others, first])
        assert not torch.equal(near[others, 4:], as_drawn[others, 4:]), "what is shown is what is remembered"
    happy = StreamControls(expression="happy")
    as_drawn, near = (speak(model, portrait(1), sound, seed=0, controls=happy).latents[0] for model in (free, homed))
    assert torch.equal(near[1], home[1].expand_as(near[1]))
    assert torch.equal(near[3, first], as_drawn[3, first]), "who is asked for an expression is not called home from it"


def test_formats_of_sound() -> None:
    sound = (speech(6_000) * 32767).astype(np.int16)
    expected = images(play(tiniest_avatar().stream(), sound))
    as_float = images(play(tiniest_avatar().stream(), (sound / 32768).astype(np.float32)))
    as_stereo = images(play(tiniest_avatar().stream(num_channels=2), np.stack([sound, sound], 1)))
    assert np.array_equal(as_float, expected)
    assert np.array_equal(as_stereo, expected)


def test_unread_pictures_come_first_next_time() -> None:
    sound = speech(30_000)
    expected = images(play(tiniest_avatar().stream(), sound))
    with tiniest_avatar().stream() as stream:
        frames = [next(stream.push(sound))]
        frames += itertools.islice(stream.push(sound[:0]), 17)
        frames += stream.flush()
    assert np.array_equal(images(frames), expected)


def test_controls_change_what_follows_only() -> None:
    sound = speech(30_000)
    expected = images(play(tiniest_avatar().stream(block_latents=1), sound))
    with tiniest_avatar().stream(block_latents=1) as stream:
        before = list(stream.push(sound[:15_000]))
        stream.controls = StreamControls(state="listening")
        after = [*stream.push(sound[15_000:]), *stream.flush()]
    assert np.array_equal(images(before), expected[: len(before)])
    assert not np.array_equal(images(after), expected[len(before) :])


def test_setting_one_wish_keeps_the_others() -> None:
    with tiniest_avatar().stream(controls=StreamControls(state="idle", expression="sad")) as stream:
        stream.set(expression_intensity=0.5, gaze_rad=(0.1, 0.0))
        assert stream.controls == StreamControls(state="idle", expression="sad", expression_intensity=0.5, gaze_rad=(0.1, 0.0))
        stream.set(expression=None)
        assert stream.controls == StreamControls(state="idle", expression_intensity=0.5, gaze_rad=(0.1, 0.0))
        with pytest.raises(ConfigError, match="'asleep'"):
            stream.set(state="asleep")
        assert stream.controls.state == "idle"


def test_a_track_is_followed_whatever_the_blocks() -> None:
    """A wish that begins with the third latent leaves the pictures before it as they are, and changes those after."""
    sound = speech(12_000)
    late = ControlTrack(times_s=(5 / 25,), wishes=(StreamControls(state="listening", expression="angry"),))
    plain = images(play(tiniest_avatar().stream(block_latents=1), sound))
    asked = images(play(tiniest_avatar().stream(block_latents=1, controls=late), sound))
    assert np.array_equal(plain[:5], asked[:5])
    assert not np.array_equal(plain[5:], asked[5:])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"block_latents": 3}, "block_latents is 3"),
        ({"guidance_audio": math.nan}, "guidance_audio is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        tiniest_avatar().stream(**options)


def test_sound_that_cannot_be_is_refused_and_harms_nothing() -> None:
    sound = speech(10_000)
    expected = images(play(tiniest_avatar().stream(), sound))
    with tiniest_avatar().stream() as stream:
        for wrong in (np.full(3, np.nan), np.zeros((3, 2)), np.zeros(3, np.int32), np.full(3, 9_000.0)):
            with pytest.raises(AudioError):
                stream.push(wrong)
        assert np.array_equal(images([*stream.push(sound), *stream.flush()]), expected)


def test_nothing_goes_in_after_the_end() -> None:
    stream = tiniest_avatar().stream()
    assert len(list(stream.flush())) == 0
    with pytest.raises(AudioError, match="after the stream was flushed"):
        stream.push(speech(10))
    stream.close()
    assert list(stream.flush()) == []
    with pytest.raises(AudioError, match="stream that is closed"):
        stream.push(speech(10))


def test_an_exception_closes_the_stream() -> None:
    stream = tiniest_avatar().stream()
    pictures = stream.push(speech(40_000))
    next(pictures)
    with pytest.raises(RuntimeError, match="mine"), stream:
        raise RuntimeError("mine")
    assert list(pictures) == []


def places(state: StreamState) -> list[int]:
    """Where a state's tensors lie in memory."""
    return [tensor.data_ptr() for tensor in state.tensors()]


def test_memory_does_not_grow() -> None:
    second = np.zeros(16_000, np.float32)
    with tiniest_avatar().stream(block_latents=1) as stream:
        num_frames = sum(1 for _ in stream.push(second))
        num_bytes, before = stream.state.num_bytes, places(stream.state)
        for _ in range(20):  # eight windows of 16 latents
            num_frames += sum(1 for _ in stream.push(second))
            assert (stream.state.num_bytes, places(stream.state)) == (num_bytes, before)
        assert num_frames == frames_of_latents(stream.state.generator.video_latents)


@pytest.mark.slow
@torch.inference_mode()
def test_memory_does_not_grow_over_ten_thousand_blocks() -> None:
    """A stream's steps without hearing, which would take most of the time."""
    avatar = tiniest_avatar()
    model, generator = avatar.model, avatar.model.generator
    state = avatar.stream(block_latents=1).state
    num_bytes, before = state.num_bytes, places(state)
    z = torch.randn(1, 8, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    conditions = torch.zeros(1, 1, generator.config.condition_channels)
    for block in range(10_000):
        z = z - model.runtime.velocity(z, conditions, torch.ones(()), state.generator)
        generator.commit(z, state.generator, next_block_latents=1, write=model.runtime.write_context)
        if block % 10 == 0:
            model.runtime.decode(z, avatar.references, state.decoder)
            assert (state.num_bytes, places(state)) == (num_bytes, before)
        else:  # of this decoder only D1 keeps anything, and the rest takes most of the time
            model.vae.d1(z, state.decoder.d1)
    assert (state.num_bytes, places(state)) == (num_bytes, before)
    assert state.generator.video_latents == 10_000
