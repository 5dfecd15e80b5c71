"""Normalisation that keeps time causal. Shapes: B batch, C channels, T time, H height, W width."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelRMSNorm(nn.Module):
    """Root-mean-square norm over the channels of every position of (B, C, T, H, W), with a gain per channel.

    No statistic crosses time or space, so streaming and offline agree (paper 3.1).
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape."""
        return F.rms_norm(x.movedim(1, -1), self.weight.shape, self.weight, eps=1e-6).movedim(-1, 1)
