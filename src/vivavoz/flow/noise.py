"""Random draws of flow-matching training. Every draw takes the `torch.Generator` that makes it reproducible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vivavoz.flow.path import interpolate, velocity_target
from vivavoz.flow.schedule import shift_flow_time

MAX_CONTEXT_NOISE = 0.7
"""Highest flow time that the ground-truth context is noised to in training (section 4.1)."""


def gaussian_like(tensor: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal noise of `tensor`'s shape, dtype and device, drawn on the generator's device."""
    return torch.randn(tensor.shape, generator=rng, device=rng.device, dtype=torch.float32).to(tensor)


def logit_normal(shape: Sequence[int], rng: torch.Generator, *, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Flow times `t ~ LogitNormal(mean, std)`, float32 in (0, 1), on the generator's device."""
    return torch.sigmoid(mean + std * torch.randn(tuple(shape), generator=rng, device=rng.device))


def context_noise_level(shape: Sequence[int], rng: torch.Generator, *, maximum: float = MAX_CONTEXT_NOISE) -> Tensor:
    """Flow times `t' ~ U[0, maximum]` for the augmented context, float32, on the generator's device."""
    return maximum * torch.rand(tuple(shape), generator=rng, device=rng.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowMatchingDraw:
    """What algorithm 1 draws for a window of clean latents `(B, C, N, H, W)`."""

    noised: Tensor
    """`z_t`, `(B, C, N, H, W)`."""
    context: Tensor
    """`z_aug`, the ground truth with a little noise, `(B, C, N, H, W)`."""
    target: Tensor
    """Velocity to be learnt, `(B, C, N, H, W)`."""
    flow_time: Tensor
    """`t` of `noised`: `(B,)`, or `(B, N)` when drawn per block."""


def draw_flow_matching(
    clean: Tensor,
    rng: torch.Generator,
    *,
    max_context_noise: float = MAX_CONTEXT_NOISE,
    block_latents: int | None = None,
    timestep_shift: float = 1.0,
) -> FlowMatchingDraw:
    """Draw times and noises of algorithm 1, steps 2 and 3, for clean latents `(B, C, N, H, W)`.

    One flow time and one context noise level per row, as published; with `block_latents` each block of that many latent
    frames draws a flow time of its own, `(B, N)`, so that one window trains on several times. `timestep_shift` moves flow times
    towards noise as that of a sampler does.
    """
    batch_size, _, num_latents = clean.shape[:3]
    if block_latents is None:
        flow_time = logit_normal((batch_size,), rng)
    else:
        num_blocks = -(-num_latents // block_latents)
        flow_time = logit_normal((batch_size, num_blocks), rng).repeat_interleave(block_latents, 1)[:, :num_latents]
    flow_time = shift_flow_time(flow_time, timestep_shift)
    level = context_noise_level((batch_size,), rng, maximum=max_context_noise)
    noise, context_noise = gaussian_like(clean, rng), gaussian_like(clean, rng)
    return FlowMatchingDraw(
        noised=interpolate(clean, noise, flow_time.to(clean)),
        context=interpolate(clean, context_noise, level.to(clean)),
        target=velocity_target(clean, noise),
        flow_time=flow_time.to(clean.device),
    )
