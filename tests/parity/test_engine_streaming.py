"""A conversation against algorithm 2 written out offline, against itself in other chunks, and against its neighbours."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models import cut, images, lively_model, play, portrait, speech, tiniest_avatar, tiny_avatar
from vivavoz.engine.avatar import Avatar
from vivavoz.engine.controls import StreamControls
from vivavoz.flow.schedule import flow_times
from vivavoz.generator.conditioning import Controls, group_audio
from vivavoz.generator.state import CacheRead
from vivavoz.presets import SamplingConfig, tiny
from vivavoz.timing import frames_of_latents

NO_GUIDANCE = {"guidance_audio": 1.0, "guidance_reference": 1.0}


@torch.no_grad()
def algorithm_2(
    avatar: Avatar, samples: np.ndarray, sampling: SamplingConfig, seed: int, controls: Controls | None = None
) -> Tensor:
    """The whole clip at once where it can be: all sound is heard first, all latents are decoded last; (T, H, W, 3) in [-1, 1]."""
    model, block = avatar.model, sampling.block_latents
    num_frames = math.ceil(len(samples) / 640)
    num_blocks = next(n for n in range(1, 10_000) if frames_of_latents(n * block) >= num_frames)
    silence = np.zeros((1 + 4 * num_blocks * block) * 640 - len(samples), np.float32)
    features = model.audio(torch.from_numpy(np.concatenate([samples, silence]))[None])
    audio = group_audio(features[:, : frames_of_latents(num_blocks * block)], starts_video=True)

    state = model.generator.init_state(
        1, tuple(avatar.references.latents.shape[-2:]), num_references=3, guidance=True, cache_read=CacheRead.MASKED
    )
    model.generator.prefill(avatar.references.latents.transpose(1, 2), state)
    rng = torch.Generator().manual_seed(seed)
    times = flow_times(sampling.num_steps, shift=sampling.timestep_shift)
    la, lr = sampling.guidance_audio, sampling.guidance_reference
    latents = []
    for i in range(num_blocks):
        conditions = model.generator.conditions(audio[:, i * block : (i + 1) * block], starts_video=i == 0, controls=controls)
        z = torch.randn(1, model.preset.vae.latent_channels, block, *avatar.references.latents.shape[-2:], generator=rng)
        for j in range(sampling.num_steps):
            full, no_a, no_r = model.generator.guidance_velocities(z, conditions, times[j], state)
            velocity = la * (full - no_a) + lr * (full - no_r) - full + no_a + no_r  # equation (I)
            z = z + (times[j + 1] - times[j]) * velocity
        model.generator.commit(z, state, next_block_latents=block)
        latents.append(z)
    video = model.vae.decode(torch.cat(latents, 2), avatar.references)
    return video[0, :, :num_frames].permute(1, 2, 3, 0)


def assert_pictures_agree(got: np.ndarray, expected: Tensor) -> None:
    """uint8 pictures against their unrounded originals: no further off than rounding explains."""
    assert got.shape == tuple(expected.shape)
    levels = (expected.clamp(-1, 1) + 1) * 127.5
    assert np.abs(got - levels.numpy()).max() <= 0.5 + 0.02


@pytest.mark.parametrize("block_latents", [1, 2, 4])
@pytest.mark.parametrize(("la", "lr"), [(1, 1), (2, 1), (2, 2), (1, 1.5), (0, 0.5)])
def test_a_stream_is_algorithm_2(block_latents: int, la: float, lr: float) -> None:
    avatar = tiny_avatar()
    samples = speech(9_000)
    sampling = replace(avatar.model.preset.sampling, block_latents=block_latents, guidance_audio=la, guidance_reference=lr)
    stream = avatar.stream(seed=3, block_latents=block_latents, guidance_audio=la, guidance_reference=lr)
    assert_pictures_agree(images(play(stream, samples, 640)), algorithm_2(avatar, samples, sampling, seed=3))


@pytest.mark.parametrize("block_latents", [2, 4])
def test_the_window_slides_as_in_algorithm_2(block_latents: int) -> None:
    avatar = tiny_avatar()
    window_latents = avatar.model.preset.generator.window_latents
    samples = speech(640 * 4 * (2 * window_latents + 3))
    sampling = replace(
        avatar.model.preset.sampling, block_latents=block_latents, num_steps=1, guidance_audio=1, guidance_reference=1
    )
    stream = avatar.stream(seed=1, num_steps=1, block_latents=block_latents, **NO_GUIDANCE)
    assert_pictures_agree(images(play(stream, samples)), algorithm_2(avatar, samples, sampling, seed=1))


def test_the_reference_warp_streams_as_in_algorithm_2() -> None:
    avatar = lively_model(tiny(warp=True)).avatar([portrait(0, 160, 160), portrait(1, 160, 160)], crop="none")
    assert avatar.size == 128
    samples = speech(12_000)
    frames = play(avatar.stream(seed=2), samples, 1_000)
    assert_pictures_agree(images(frames), algorithm_2(avatar, samples, avatar.model.preset.sampling, seed=2))


def test_controls_reach_the_generator() -> None:
    avatar = tiny_avatar()
    samples = speech(6_400)
    wish = StreamControls(
        state="idle", expression="sad", expression_intensity=0.5, gaze_rad=(0.1, 0.2), head_pose_rad=(0.3, 0.0, -0.1)
    )
    controls = Controls(
        state=torch.full((1, 4), 2),
        expression=torch.full((1, 4), 2),
        expression_intensity=torch.full((1, 4), 0.5),
        gaze=torch.tensor([0.1, 0.2]).expand(1, 4, 2),
        head_pose=torch.tensor([0.3, 0.0, -0.1]).expand(1, 4, 3),
    )
    frames = images(play(avatar.stream(controls=wish), samples))
    assert_pictures_agree(frames, algorithm_2(avatar, samples, avatar.model.preset.sampling, seed=0, controls=controls))
    assert (frames != images(play(avatar.stream(), samples))).any()


CHUNKS = [1, 7, 211, 640, 641, 2_560, 4_099, 12_345]


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
@pytest.mark.parametrize("block_latents", [1, 4])
def test_any_chunking_gives_the_same_pictures(rate_hz: int, block_latents: int) -> None:
    avatar = tiniest_avatar()
    samples = (speech(12_345) * 32767).astype(np.int16)
    options = {"sample_rate_hz": rate_hz, "block_latents": block_latents}
    whole = play(avatar.stream(**options), samples)
    assert len(whole) == math.ceil(round(12_345 * 16_000 / rate_hz) / 640)
    for chunk_samples in CHUNKS:
        frames = play(avatar.stream(**options), samples, chunk_samples)
        assert np.array_equal(images(frames), images(whole)), f"chunks of {chunk_samples}"
        assert [(frame.index, frame.time) for frame in frames] == [(frame.index, frame.time) for frame in whole]


def test_a_minute_pushed_at_once_is_the_minute_in_chunks() -> None:
    avatar = tiniest_avatar()
    samples = speech(60 * 16_000)
    with avatar.stream() as at_once, avatar.stream() as in_chunks:
        first = at_once.push(samples)
        second = (frame for chunk in cut(samples, 3_203) for frame in in_chunks.push(chunk))
        for _ in range(3 * 16):  # one is as good as the other from here on: both hold no more than the sound still to come
            assert np.array_equal(next(first).image, next(second).image)


def test_interleaved_streams_do_not_disturb_one_another() -> None:
    avatar = tiniest_avatar()
    other = tiniest_avatar().model.avatar(portrait(5), crop="none")
    one_sound, other_sound = speech(16_000, seed=1), speech(16_000, seed=2)
    alone = images(play(avatar.stream(seed=1), one_sound)), images(play(other.stream(seed=2, block_latents=2), other_sound))
    with avatar.stream(seed=1) as one, avatar.stream(seed=7) as noise, other.stream(seed=2, block_latents=2) as two:
        frames = [], []
        for first, second in zip(cut(one_sound, 777), cut(other_sound, 777), strict=True):
            frames[0].extend(one.push(first))
            list(noise.push(second))
            frames[1].extend(two.push(second))
        frames[0].extend(one.flush())
        frames[1].extend(two.flush())
    assert np.array_equal(images(frames[0]), alone[0])
    assert np.array_equal(images(frames[1]), alone[1])


def test_the_future_never_changes_the_past() -> None:
    avatar = tiniest_avatar()
    samples = speech(20_000)
    changed = samples.copy()
    changed[10_000:] = speech(10_000, seed=9)
    before = images(play(avatar.stream(block_latents=1), samples))
    after = images(play(avatar.stream(block_latents=1), changed))
    # Sound up to samples_needed(9) = 7840 decides the first 9 pictures, up to 10400 the first 13.
    assert np.array_equal(before[:9], after[:9])
    assert not np.array_equal(before[13:], after[13:])


def test_pictures_come_as_soon_as_their_sound_is_complete() -> None:
    avatar = tiniest_avatar()
    samples = speech(30_000)
    with avatar.stream(block_latents=1) as stream:
        given = {}
        for start in range(0, 30_000, 40):
            for frame in stream.push(samples[start : start + 40]):
                given[frame.index] = start + 40
    # Wav2Lip's window of picture i ends 400 samples after the centre of mel frame floor(16 (i - 1) / 5) + 15.
    needed = {i: 200 * (16 * (i - 1) // 5 + 15) + 400 for i in range(0, 100, 4)}
    assert [given[i] for i in sorted(given) if i % 4 == 0] == [needed[i] for i in sorted(given) if i % 4 == 0]
    assert max(given) == 40


def test_frames_carry_exact_times() -> None:
    frames = play(tiniest_avatar().stream(), speech(6_401))
    assert [frame.index for frame in frames] == list(range(11))
    assert [frame.time for frame in frames] == [Fraction(i, 25) for i in range(11)]
    assert all(frame.duration == Fraction(1, 25) for frame in frames)
