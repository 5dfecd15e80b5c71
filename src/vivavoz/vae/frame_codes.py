"""Frame codes: a few numbers for every single picture, and how four pictures' numbers become one latent.

Beyond the paper, which lets convolutions find what to keep of four pictures. Where all that a latent says is how a person moves,
a cosine transform along the four says it as well, needs no training, and leaves encoder and decoder with single pictures
(docs/adr/0007-frame-codes.md). A latent holds the level of every code, then the slopes, then the bends; each is scaled to roughly
the variance of the codes. The first latent of a stream stands for one picture: it has a level only.

Shapes: B batch, K codes of a frame, C_z latent channels, T frames, N latent frames, h w latent size. T = 1 + 4n and N = 1 + n
from a stream's start, T = 4n and N = n later.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoz.timing import FRAMES_PER_LATENT

Weights: TypeAlias = tuple[tuple[float, ...], ...]

GAINS: Final = (0.5, 2.0, 3.0)
"""Scale of each cosine coefficient: 0.5 undoes the transform's gain for a constant; motion in 160 ms is small, so it grows."""


def _cosine(order: int, frame: int) -> float:
    """An element of the orthonormal cosine transform of four samples."""
    scale = math.sqrt((1 if order == 0 else 2) / FRAMES_PER_LATENT)
    return scale * math.cos(math.pi * order * (frame + 0.5) / FRAMES_PER_LATENT)


_FRAMES: Final = range(FRAMES_PER_LATENT)
_ANALYSIS: Final[Weights] = tuple(tuple(gain * _cosine(order, f) for f in _FRAMES) for order, gain in enumerate(GAINS))
_VARIANCES: Final[Weights] = tuple(tuple(weight**2 for weight in row) for row in _ANALYSIS)
_SYNTHESIS: Final[Weights] = tuple(tuple(_cosine(order, f) / gain for order, gain in enumerate(GAINS)) for f in _FRAMES)


@dataclass(frozen=True, slots=True)
class FrameCodes:
    """The fixed linear map between codes and latents. What does not fit into C_z channels is dropped: the last bends first."""

    num_codes: int
    """K."""
    latent_channels: int
    """C_z."""

    def pack(self, codes: Tensor, *, is_start: bool = True) -> Tensor:
        """Codes (B, K, T, h, w) -> latents (B, C_z, N, h, w)."""
        return self._packed(codes, _ANALYSIS, is_start=is_start)

    def pack_variance(self, variance: Tensor, *, is_start: bool = True) -> Tensor:
        """Variances of independent codes (B, K, T, h, w) -> those of the latents; 0 where a latent says nothing."""
        return self._packed(variance, _VARIANCES, is_start=is_start)

    def unpack(self, z: Tensor, *, is_start: bool = True) -> Tensor:
        """Latents (B, C_z, N, h, w) -> codes (B, K, T, h, w): `pack` undone, but for what it dropped."""
        z = _with_channels(z, len(GAINS) * self.num_codes)
        start = 1 if is_start else 0
        if z.shape[2] <= start:  # a single picture, as references are; exporters cannot do what follows for no pictures
            return z[:, : self.num_codes]
        frames = _weighted_sums(z[:, :, start:].unflatten(1, (len(GAINS), -1)).unbind(1), _SYNTHESIS, dim=3).flatten(2, 3)
        return torch.cat([z[:, : self.num_codes, :start], frames], dim=2)

    def _packed(self, codes: Tensor, weights: Weights, *, is_start: bool) -> Tensor:
        start = 1 if is_start else 0
        groups = codes[:, :, start:].unflatten(2, (-1, FRAMES_PER_LATENT)).unbind(3)
        later = _with_channels(_weighted_sums(groups, weights, dim=1).flatten(1, 2), self.latent_channels)
        return torch.cat([_with_channels(codes[:, :, :start], self.latent_channels), later], dim=2)


def _weighted_sums(parts: Sequence[Tensor], weights: Weights, *, dim: int) -> Tensor:
    """For every row of `weights` the sum of `parts`, each times its weight; stacked along `dim`."""
    sums = [sum((weight * part for weight, part in zip(row[1:], parts[1:], strict=True)), row[0] * parts[0]) for row in weights]
    return torch.stack(sums, dim=dim)


def _with_channels(x: Tensor, num_channels: int) -> Tensor:
    """(B, C, N, h, w) cut or padded with zeros to so many channels."""
    return F.pad(x, (0, 0, 0, 0, 0, 0, 0, max(0, num_channels - x.shape[1])))[:, :num_channels]
