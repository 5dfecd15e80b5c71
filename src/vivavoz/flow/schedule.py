"""Flow times that the sampler visits."""

from __future__ import annotations

import torch
from torch import Tensor

from vivavoz.errors import ConfigError

DEFAULT_NUM_STEPS = 12
"""Denoising steps of the paper (supplement B)."""

DEFAULT_TIMESTEP_SHIFT = 5.0
"""Larger shifts spend more of the steps near noise."""


def shift_flow_time(flow_time: Tensor, shift: float) -> Tensor:
    """`s * t / (1 + (s - 1) * t)`: keeps 0 and 1, moves what lies between towards noise for `shift > 1`."""
    return shift * flow_time / (1 + (shift - 1) * flow_time)


def flow_times(
    num_steps: int = DEFAULT_NUM_STEPS,
    *,
    shift: float = DEFAULT_TIMESTEP_SHIFT,
    device: torch.device | str | None = None,
) -> Tensor:
    """The `num_steps + 1` flow times of a sampling run, float32, falling from exactly 1 to exactly 0.

    Raises `ConfigError` for fewer than one step or a shift that is not positive.
    """
    if num_steps < 1:
        raise ConfigError(f"num_steps is {num_steps}, expected at least 1: choose a positive number of denoising steps")
    if not shift > 0:
        raise ConfigError(f"timestep shift is {shift}, expected a positive number: 1 leaves the steps evenly spaced")
    evenly = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    return shift_flow_time(evenly, shift).to(device=device, dtype=torch.float32)
