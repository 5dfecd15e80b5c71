"""Streams through the real engine, with what an evaluation wants kept: some pictures, and all latents.

Legend: C channels, N latent frames, h w latent size, H W picture size; samples at 16 kHz.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivavoz.engine.controls import Wishes
from vivavoz.engine.model import Model
from vivavoz.engine.runtime import DecodeStep
from vivavoz.presets import SamplingConfig
from vivavoz.timing import FRAMES_PER_LATENT
from vivavoz.vae.vae import DecoderState, References

_WARM_UP_FRAMES = 16
"""Pictures decoded before those that are kept, for convolutions over time to have some past. `lite` has none of these."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spoken:
    """What a model made of a recording."""

    images: tuple[NDArray[np.uint8], ...]
    """The pictures asked for, (H, W, 3) each, in order."""
    latents: Tensor
    """(1, C, N, h, w)."""


def with_sampling(model: Model, sampling: SamplingConfig) -> Model:
    """The same weights, drawn from in another way by default."""
    other = copy.copy(model)
    other.preset = replace(model.preset, sampling=sampling)
    return other


def speak(
    model: Model,
    portrait: NDArray[np.uint8],
    samples: NDArray[np.float32],
    *,
    seed: int,
    shown: Sequence[range] | None = None,
    controls: Wishes | None = None,
    size: int | None = None,
) -> Spoken:
    """Stream a recording through the engine.

    Args:
        model: sampled as its preset says.
        portrait: (512, 512, 3), taken as it is.
        samples: (640 F,).
        seed: of the noise.
        shown: spans of pictures to decode and keep (None: all). The others cost a tenth of the time.
        controls: what the face shall do beside speaking.
        size: side of the pictures in pixels (None: the preset's).
    """
    latents: list[Tensor] = []
    listening = copy.copy(model)  # shares the weights; only its runtime is another
    listening.runtime = replace(
        model.runtime,
        decode_first=_recording(model.runtime.decode_first, latents, shown),
        decode=_recording(model.runtime.decode, latents, shown),
    )
    images: list[NDArray[np.uint8]] = []
    with listening.avatar(portrait, crop="none", size=size).stream(seed=seed, controls=controls) as stream:
        for frames in (stream.push(samples), stream.flush()):
            images += [frame.image for frame in frames if shown is None or any(frame.index in span for span in shown)]
    return Spoken(images=tuple(images), latents=torch.cat(latents, dim=2))


def _recording(step: DecodeStep, latents: list[Tensor], shown: Sequence[range] | None) -> DecodeStep:
    """The same step, keeping the latents it is given; pictures that nobody wants are black."""

    def record(z: Tensor, references: References, state: DecoderState) -> Iterable[Tensor]:
        num_past = sum(past.shape[2] for past in latents)
        latents.append(z.detach().clone().cpu())
        num_frames = FRAMES_PER_LATENT * z.shape[2] - (0 if num_past else FRAMES_PER_LATENT - 1)
        first = FRAMES_PER_LATENT * num_past - (FRAMES_PER_LATENT - 1) if num_past else 0
        wanted = shown is None or any(
            first < span.stop and span.start - _WARM_UP_FRAMES < first + num_frames for span in shown if len(span)
        )
        # A stream's first block sets the decoder going.
        if wanted or (shown and not num_past):
            return step(z, references, state)
        return [torch.zeros(1, num_frames, *references.size, 3, dtype=torch.uint8)]

    return record
