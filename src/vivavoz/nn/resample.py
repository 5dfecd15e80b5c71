"""CR-VA: causal residual video auto-encoding, the two-step change of resolution of the paper's figure III.

Down: time first (the stream's first frame left out: "split-first"), then space. Up: space first, then time. Beside the main
branch of convolutions runs a shortcut without parameters: channel averaging on the way down, duplication on the way up.

Shapes: B batch, C channels, T time, H height, W width. Folding is channel-major, as in `torch.nn.PixelUnshuffle`: output channel
`c * k + j` holds the j-th of k neighbours of input channel c (in space `c * k * k + row * k + column`). In memory channels are
kept last throughout (`torch.channels_last_3d`): the layout convolutions are fastest in, on CPUs and GPUs alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.nn.conv import CausalConv3d, ConvState
from vivavoz.nn.stream import StreamState


def fold_time(x: Tensor, k: int) -> Tensor:
    """(B, C, T, H, W) -> (B, C*k, T/k, H, W)."""
    x = torch.unflatten(x.movedim(1, -1), 1, (-1, k))  # B T k H W C
    return x.permute(0, 1, 3, 4, 5, 2).flatten(-2).movedim(-1, 1)


def unfold_time(x: Tensor, k: int) -> Tensor:
    """(B, C*k, T, H, W) -> (B, C, T*k, H, W)."""
    x = torch.unflatten(x.movedim(1, -1), -1, (-1, k))  # B T H W C k
    return x.permute(0, 1, 5, 2, 3, 4).flatten(1, 2).movedim(-1, 1)


def fold_space(x: Tensor, k: int) -> Tensor:
    """(B, C, T, H, W) -> (B, C*k*k, T, H/k, W/k)."""
    x = torch.unflatten(torch.unflatten(x.movedim(1, -1), 3, (-1, k)), 2, (-1, k))  # B T h k w k C
    return x.permute(0, 1, 2, 4, 6, 3, 5).flatten(-3).movedim(-1, 1)


def unfold_space(x: Tensor, k: int) -> Tensor:
    """(B, C*k*k, T, H, W) -> (B, C, T, H*k, W*k)."""
    frames = F.pixel_shuffle(x.transpose(1, 2).flatten(0, 1), k)
    return torch.unflatten(frames, 0, (x.shape[0], x.shape[2])).transpose(1, 2)


def average_channels(x: Tensor, num_channels: int) -> Tensor:
    """Mean over groups of neighbouring channels: (B, G*num_channels, ...) -> (B, num_channels, ...)."""
    return torch.unflatten(x, 1, (num_channels, -1)).mean(dim=2)


@torch.no_grad()
def duplicate_channels_(conv: CausalConv3d, k: int) -> None:
    """Let a convolution from C to C*k channels start as a copy of every channel to its k moments: a clip starts as its stills."""
    conv.weight.zero_()
    conv.weight[:, :, 0, 1, 1] = torch.eye(conv.in_channels).repeat_interleave(k, dim=0)
    assert conv.bias is not None
    conv.bias.zero_()


def split_first(x: Tensor, temporal: Callable[[Tensor], Tensor], *, is_start: bool) -> Tensor:
    """Apply `temporal` along time, but let the very first frame of a stream pass: it depends on nothing but itself."""
    if not is_start:
        return temporal(x)
    if x.shape[2] == 1:
        return x
    return torch.cat([x[:, :, :1], temporal(x[:, :, 1:])], dim=2)


@dataclass(slots=True, kw_only=True)
class ResampleState(StreamState):
    """State of a change of resolution: the spatial convolution's tail, and whether the first frame has passed."""

    spatial: ConvState
    is_start: bool = True


class _Resample(nn.Module):
    """What both directions share: the factors, the switch of the shortcut, and the state."""

    def __init__(self, *, temporal: int, spatial: int, residual: bool) -> None:
        super().__init__()
        self.temporal, self.spatial, self.residual = temporal, spatial, residual
        self.conv_s: CausalConv3d
        self.conv_t: CausalConv3d | None

    def init_state(self, batch_size: int, height: int, width: int) -> ResampleState:
        """A fresh state; `height` x `width` is the resolution the spatial convolution works at (its input's)."""
        return ResampleState(spatial=self.conv_s.init_state(batch_size, height, width))

    def forward(self, x: Tensor, state: ResampleState | None = None) -> Tensor:
        """See the subclass."""
        is_start = state is None or state.is_start
        y = self._main(x, None if state is None else state.spatial, is_start=is_start)
        if self.residual:
            y = y + self._shortcut(x, is_start=is_start)
        if state is not None:
            state.is_start = False
        return y

    def _main(self, x: Tensor, state: ConvState | None, *, is_start: bool) -> Tensor:
        raise NotImplementedError

    def _shortcut(self, x: Tensor, *, is_start: bool) -> Tensor:
        raise NotImplementedError


class CausalDownsample(_Resample):
    """Figure III, algorithm 1: (B, C_in, 1+T, H, W) -> (B, C_out, 1+T/temporal, H/spatial, W/spatial)."""

    def __init__(
        self, c_in: int, c_out: int, *, temporal: int = 1, spatial: int = 2, temporal_kernel: int = 3, residual: bool = True
    ) -> None:
        super().__init__(temporal=temporal, spatial=spatial, residual=residual)
        self.c_out = c_out
        self.conv_t = CausalConv3d(c_in, c_in // temporal, temporal_kernel=1) if temporal > 1 else None
        self.conv_s = CausalConv3d(c_in, c_out // spatial**2, temporal_kernel=temporal_kernel)

    def _main(self, x: Tensor, state: ConvState | None, *, is_start: bool) -> Tensor:
        if (conv := self.conv_t) is not None:
            x = split_first(x, lambda v: fold_time(conv(v), self.temporal), is_start=is_start)
        return fold_space(self.conv_s(x, state), self.spatial)

    def _shortcut(self, x: Tensor, *, is_start: bool) -> Tensor:
        if self.temporal > 1:
            c_in = x.shape[1]
            x = split_first(x, lambda v: average_channels(fold_time(v, self.temporal), c_in), is_start=is_start)
        return average_channels(fold_space(x, self.spatial), self.c_out)


class CausalUpsample(_Resample):
    """Figure III, algorithm 2: (B, C_in, 1+T, H, W) -> (B, C_out, 1+T*temporal, H*spatial, W*spatial)."""

    def __init__(
        self, c_in: int, c_out: int, *, temporal: int = 1, spatial: int = 2, temporal_kernel: int = 3, residual: bool = True
    ) -> None:
        super().__init__(temporal=temporal, spatial=spatial, residual=residual)
        self.repeats = c_out * spatial**2 // c_in
        self.conv_s = CausalConv3d(c_in, c_out * spatial**2, temporal_kernel=temporal_kernel)
        self.conv_t = CausalConv3d(c_out, c_out * temporal, temporal_kernel=1) if temporal > 1 else None
        if self.conv_t is not None:
            duplicate_channels_(self.conv_t, temporal)

    def forward(self, x: Tensor, state: ResampleState | None = None) -> Tensor:
        """(B, C_in, T, H, W) -> (B, C_out, T', spatial * H, spatial * W)."""
        if self.conv_t is not None or not self.residual:
            return super().forward(x, state)
        # Without time, main branch and shortcut only differ before they are unfolded.
        y = self.conv_s(x, state and state.spatial) + x.repeat_interleave(self.repeats, dim=1)
        if state is not None:
            state.is_start = False
        return unfold_space(y, self.spatial)

    def _main(self, x: Tensor, state: ConvState | None, *, is_start: bool) -> Tensor:
        x = unfold_space(self.conv_s(x, state), self.spatial)
        if (conv := self.conv_t) is not None:
            x = split_first(x, lambda v: unfold_time(conv(v), self.temporal), is_start=is_start)
        return x

    def _shortcut(self, x: Tensor, *, is_start: bool) -> Tensor:
        x = unfold_space(x.repeat_interleave(self.repeats, dim=1), self.spatial)
        if self.temporal > 1:
            x = split_first(x, lambda v: unfold_time(v.repeat_interleave(self.temporal, dim=1), self.temporal), is_start=is_start)
        return x
