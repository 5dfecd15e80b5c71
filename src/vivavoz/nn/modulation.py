"""Conditioning on the flow time by adaptive layer norm.

`B F S D`: rows, latent frames, tokens of a latent frame, channels. Everything a latent frame holds shares one flow time, so
modulations are computed per latent frame and broadcast over its tokens.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCY_CHANNELS = 256
_TIME_SCALE = 1_000.0
_MAX_PERIOD = 10_000.0


class FlowTimeEmbedding(nn.Module):
    """Flow times in [0, 1], any shape `(...)`, to `(..., width)`: sinusoids and a small MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCY_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, flow_time: Tensor) -> Tensor:
        """Embed `flow_time`; the sinusoids are computed in float32, the result has the weights' dtype."""
        half = FREQUENCY_CHANNELS // 2
        exponents = torch.arange(half, device=flow_time.device, dtype=torch.float32) / half
        angles = _TIME_SCALE * flow_time.float()[..., None] * torch.exp(-math.log(_MAX_PERIOD) * exponents)
        sinusoids = torch.cat([angles.cos(), angles.sin()], -1)
        embedding: Tensor = self.mlp(sinusoids.to(next(self.mlp.parameters()).dtype))
        return embedding


class Modulation(nn.Module):
    """AdaLN projection: a flow-time embedding to `num_outputs` shifts, scales and gates. Starts at zero."""

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.projection = nn.Linear(width, num_outputs * width)

    def forward(self, time_embedding: Tensor) -> tuple[Tensor, ...]:
        """`(B, F, D)` to `num_outputs` tensors `(B, F, 1, D)`; B and F may be 1 and broadcast."""
        return self.projection(F.silu(time_embedding))[:, :, None].chunk(self.num_outputs, -1)  # type: ignore[no-any-return]


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise over channels, then scale and shift: `(B, F, S, D)`, modulations `(B, F, 1, D)`."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
