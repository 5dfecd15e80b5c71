"""Which conditions a training step sees: random draws, each with the `torch.Generator` that makes it reproducible."""

from __future__ import annotations

import torch
from torch import Tensor

from vivavoz.generator.conditioning import CONTROL_NAMES

CONDITION_DROP_PROBABILITY = 0.1
"""How often audio, references, and each control are replaced by their null embeddings (supplement B)."""


def draw_audio_drop(batch_size: int, rng: torch.Generator, *, probability: float = CONDITION_DROP_PROBABILITY) -> Tensor:
    """Rows that lose their audio: `(B,)` bool on the generator's device."""
    return torch.rand(batch_size, generator=rng, device=rng.device) < probability


def draw_reference_mask(
    batch_size: int, num_references: int, rng: torch.Generator, *, drop_probability: float = CONDITION_DROP_PROBABILITY
) -> Tensor:
    """References each row may see, `(B, R)` bool: a uniform number of 1..R, at random places; none where dropped."""
    count = torch.randint(1, num_references + 1, (batch_size, 1), generator=rng, device=rng.device)
    rank = torch.rand(batch_size, num_references, generator=rng, device=rng.device).argsort(1).argsort(1)
    dropped = torch.rand(batch_size, 1, generator=rng, device=rng.device) < drop_probability
    return (rank < count) & ~dropped


def draw_control_presence(
    batch_size: int, num_latents: int, rng: torch.Generator, *, drop_probability: float = CONDITION_DROP_PROBABILITY
) -> Tensor:
    """Controls each row keeps, for all of the window alike: `(B, N, 4)` bool, for `Controls.present`."""
    kept = torch.rand(batch_size, 1, len(CONTROL_NAMES), generator=rng, device=rng.device) >= drop_probability
    return kept.expand(-1, num_latents, -1)
