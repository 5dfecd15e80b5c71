"""Rotary position embedding over (time, row, column).

`L` tokens, `D` head channels, `B H L D` heads. A head's `D / 2` planes are split between the three axes: row and column get
`D // 6` planes each, time the rest (head_dim 128: 22 planes of time, 21 of rows, 21 of columns).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vivavoz.nn.tables import remembered

ROPE_BASE = 10_000.0


class Rotation(NamedTuple):
    """Cosines and sines of every token's angles, float32, each `(B or 1, 1, L, D / 2)`."""

    cos: Tensor
    sin: Tensor


def axis_planes(head_dim: int) -> tuple[int, int, int]:
    """Rotated planes of (time, row, column); they add up to `head_dim / 2`."""
    spatial = head_dim // 6
    return head_dim // 2 - 2 * spatial, spatial, spatial


def grid_positions(times: Tensor, height: int, width: int) -> Tensor:
    """Positions (time, row, column) of the tokens of latent frames, `(B, F) -> (B, F * height * width, 3)`, float32.

    `times` holds each latent frame's time position; tokens run over time, then rows, then columns.
    """
    batch_size, num_frames = times.shape
    shape = (batch_size, num_frames, height, width)
    rows = torch.arange(height, device=times.device, dtype=torch.float32)
    columns = torch.arange(width, device=times.device, dtype=torch.float32)
    axes = (times.float()[:, :, None, None], rows[None, None, :, None], columns[None, None, None, :])
    return torch.stack([axis.expand(shape) for axis in axes], -1).flatten(1, 3)


def rotation_at(positions: Tensor, head_dim: int) -> Rotation:
    """The rotation of tokens at `positions`, `(B, L, 3)` from `grid_positions`."""
    angles = []
    for axis, planes in enumerate(axis_planes(head_dim)):
        exponents = torch.arange(planes, device=positions.device, dtype=torch.float32) / planes
        angles.append(positions[:, :, axis, None] * ROPE_BASE**-exponents)
    angles_BLD = torch.cat(angles, -1)[:, None]
    return Rotation(angles_BLD.cos(), angles_BLD.sin())


@remembered
def _rotation_table(num_times: int, height: int, width: int, head_dim: int, device: torch.device) -> Rotation:
    times = torch.arange(num_times, device=device)[None]
    return rotation_at(grid_positions(times, height, width), head_dim)


def rotation_within(times: Tensor, num_times: int, size: tuple[int, int], head_dim: int) -> Rotation:
    """The rotation of latent frames of `size` (rows, columns) at `times`, `(B, F)` int64 in [0, num_times), from a table.

    Equal to `rotation_at(grid_positions(times, *size), head_dim)`, to the bit.
    """
    table = _rotation_table(num_times, *size, head_dim, times.device)

    def pick(angles: Tensor) -> Tensor:
        frames = angles.unflatten(2, (num_times, -1))[0, 0][times]  # B F S D/2
        return frames.flatten(1, 2)[:, None]

    return Rotation(pick(table.cos), pick(table.sin))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn queries or keys `(B, H, L, D)` by their positions; computed in float32, returned in `x`'s dtype.

    The inner product of two turned vectors depends on the difference of their positions only.
    """
    first, second = x.float().chunk(2, -1)
    cos, sin = rotation
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)
