"""Causal 3D convolution and the residual block made of it.

Shapes: B batch, C channels, T time, H height, W width; K the temporal kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.nn.norm import ChannelRMSNorm
from vivavoz.nn.stream import StreamState


@dataclass(slots=True, kw_only=True)
class ConvState(StreamState):
    """The last K-1 input frames (B, C, K-1, H, W); zeros before the stream starts, as the offline padding."""

    tail: Tensor


class CausalConv3d(nn.Conv3d):
    """Convolution that sees K-1 past frames and the current one; zero-padded on the left in time, around in space.

    With a temporal kernel of 1 it runs as a 2D convolution over B*T pictures and keeps no state.
    """

    def __init__(self, in_channels: int, out_channels: int, *, temporal_kernel: int = 3, spatial_kernel: int = 3) -> None:
        pad = spatial_kernel // 2
        super().__init__(in_channels, out_channels, (temporal_kernel, spatial_kernel, spatial_kernel), padding=(0, pad, pad))

    @property
    def num_past_frames(self) -> int:
        """Frames a stream has to remember: K-1."""
        return self.kernel_size[0] - 1

    def init_state(self, batch_size: int, height: int, width: int) -> ConvState:
        """A fresh state for inputs of `height` x `width`."""
        return ConvState(tail=self.weight.new_zeros(batch_size, self.in_channels, self.num_past_frames, height, width))

    def forward(self, x: Tensor, state: ConvState | None = None) -> Tensor:
        """(B, C_in, T, H, W) -> (B, C_out, T, H, W), any T >= 1."""
        if self.num_past_frames == 0:
            frames = x.transpose(1, 2).flatten(0, 1)
            y = F.conv2d(frames, self.weight.squeeze(2), self.bias, padding=self.padding[1:])
            return torch.unflatten(y, 0, (x.shape[0], x.shape[2])).transpose(1, 2)
        if state is None:
            x = F.pad(x, (0, 0, 0, 0, self.num_past_frames, 0))
        else:
            x = torch.cat([state.tail, x], dim=2)
            state.tail.copy_(x[:, :, -self.num_past_frames :])
        return super().forward(x)


@dataclass(slots=True, kw_only=True)
class ResBlockState(StreamState):
    """The states of a residual block's two convolutions."""

    first: ConvState
    second: ConvState


class ResBlock(nn.Module):
    """Two convolutions of single pictures with an identity residual; pre-normed, SiLU."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelRMSNorm(num_channels), ChannelRMSNorm(num_channels)
        self.conv1, self.conv2 = (nn.Conv2d(num_channels, num_channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class CausalResBlock(nn.Module):
    """Two causal convolutions with an identity residual (paper, supplement B); pre-normed, SiLU."""

    def __init__(self, num_channels: int, *, temporal_kernel: int = 3) -> None:
        super().__init__()
        self.norm1 = ChannelRMSNorm(num_channels)
        self.conv1 = CausalConv3d(num_channels, num_channels, temporal_kernel=temporal_kernel)
        self.norm2 = ChannelRMSNorm(num_channels)
        self.conv2 = CausalConv3d(num_channels, num_channels, temporal_kernel=temporal_kernel)

    def init_state(self, batch_size: int, height: int, width: int) -> ResBlockState:
        """A fresh state for inputs of `height` x `width`."""
        return ResBlockState(
            first=self.conv1.init_state(batch_size, height, width), second=self.conv2.init_state(batch_size, height, width)
        )

    def forward(self, x: Tensor, state: ResBlockState | None = None) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        h: Tensor = self.conv1(F.silu(self.norm1(x)), state and state.first)
        h = self.conv2(F.silu(self.norm2(h)), state and state.second)
        return x + h
