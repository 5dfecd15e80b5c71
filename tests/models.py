"""Models, portraits and sounds small enough for tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from vivavoz.engine.avatar import Avatar
from vivavoz.engine.conversation import Frame
from vivavoz.engine.model import Model
from vivavoz.engine.stream import Stream
from vivavoz.presets import Preset, SamplingConfig, tiny
from vivavoz.rig.labels import LABELS


def lively_model(preset: Preset, seed: int = 0) -> Model:
    """A model whose every parameter matters (a fresh generator's velocities are zero)."""
    model = Model.initialised(preset, seed)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng) * (0.3 if parameter.ndim == 1 else 0.1))
    return model


@cache
def tiny_model() -> Model:
    """The tiny preset, shared by tests that do not change it."""
    return lively_model(tiny())


def portrait(seed: int = 0, height: int = 96, width: int = 80) -> NDArray[np.uint8]:
    """A smooth random picture `(H, W, 3)`; nobody's face."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(16, 0).repeat(16, 1))


@cache
def tiny_avatar() -> Avatar:
    """Two portraits, shared by tests that do not change it."""
    return tiny_model().avatar([portrait(0), portrait(1)], crop="none")


def tiniest() -> Preset:
    """The tiny preset without what only costs time: for tests of the engine that run many blocks."""
    preset = tiny()
    vae = replace(
        preset.vae,
        encoder1_blocks=(0, 0, 0, 0),
        decoder2_blocks=(0, 0, 0, 0),
        decoder2_channels=(4, 4, 4, 2),
        outer_temporal_kernel=1,
    )
    generator = replace(preset.generator, depth=1, width=16, num_heads=1)
    sampling = SamplingConfig(num_steps=1, guidance_audio=1, guidance_reference=1)
    return replace(preset, vae=vae, generator=generator, sampling=sampling)


@cache
def tiniest_avatar() -> Avatar:
    """One portrait for `tiniest`, shared by tests that do not change it."""
    return lively_model(tiniest()).avatar(portrait(0), crop="none")


def speech(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    """Loud and quiet noise `(N,)` at 16 kHz."""
    rng = np.random.default_rng(seed)
    knots = np.arange(0, num_samples + 4_000, 4_000)
    loudness = np.interp(np.arange(num_samples), knots, rng.random(len(knots)))
    return (0.2 * loudness * rng.standard_normal(num_samples)).astype(np.float32)


def cut(samples: NDArray, chunk_samples: int) -> Iterator[NDArray]:
    """Chunks of one length; the last may be shorter."""
    for start in range(0, len(samples), chunk_samples):
        yield samples[start : start + chunk_samples]


def play(stream: Stream, samples: NDArray, chunk_samples: int | None = None) -> list[Frame]:
    """Push all samples in chunks of one length (None: at once) and flush."""
    frames: list[Frame] = []
    for chunk in cut(samples, chunk_samples or max(1, len(samples))):
        frames += stream.push(chunk)
    return frames + list(stream.flush())


def images(frames: list[Frame]) -> NDArray[np.uint8]:
    """The frames' pictures, `(T, H, W, 3)`."""
    return np.stack([frame.image for frame in frames])


def picturewise() -> Preset:
    """The tiny preset with a decoder that sees single pictures, as `lite`'s does."""
    preset = tiny(warp=True)
    return replace(preset, vae=replace(preset.vae, outer_temporal_kernel=1, inner_temporal_kernel=1))


def posing_model() -> Model:
    """A model whose preset poses lone portraits, as `lite`'s does."""
    preset = picturewise()
    vae = replace(preset.vae, latent_channels=24, frame_codes=len(LABELS))
    generator = replace(preset.generator, latent_channels=24)
    return lively_model(replace(preset, vae=vae, generator=generator, posed_jaws=(0.0, 0.6), posed_cover=-3.0))
