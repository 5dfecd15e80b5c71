"""D1 and D2: the latent to features at 1/16 (between them D_ref fuses the references in), and on to pixels (paper 3.1).

Shapes: B batch, C channels, T frames or latent frames, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.nn.conv import CausalConv3d, CausalResBlock, ConvState, ResBlockState
from vivavoz.nn.norm import ChannelRMSNorm
from vivavoz.nn.resample import CausalUpsample, ResampleState
from vivavoz.nn.stream import StreamState
from vivavoz.vae.config import VAEConfig


@dataclass(slots=True, kw_only=True)
class UpStageState(StreamState):
    """State of a stage: its change of resolution and its residual blocks."""

    resample: ResampleState
    blocks: tuple[ResBlockState, ...]


class UpStage(nn.Module):
    """One change of resolution, then residual blocks: the mirror of the encoder's stage."""

    def __init__(self, c_in: int, c_out: int, num_blocks: int, *, temporal: int, temporal_kernel: int, residual: bool) -> None:
        super().__init__()
        self.up = CausalUpsample(c_in, c_out, temporal=temporal, temporal_kernel=temporal_kernel, residual=residual)
        self.blocks = nn.ModuleList(CausalResBlock(c_out, temporal_kernel=temporal_kernel) for _ in range(num_blocks))

    def init_state(self, batch_size: int, height: int, width: int) -> UpStageState:
        """A fresh state for inputs of `height` x `width`."""
        return UpStageState(
            resample=self.up.init_state(batch_size, height, width),
            blocks=tuple(
                block.init_state(batch_size, 2 * height, 2 * width)  # type: ignore[operator]
                for block in self.blocks
            ),
        )

    def refine(self, x: Tensor, state: UpStageState | None = None) -> Tensor:
        """The residual blocks alone, at the stage's output resolution."""
        for i, block in enumerate(self.blocks):
            x = block(x, state and state.blocks[i])
        return x

    def forward(self, x: Tensor, state: UpStageState | None = None) -> Tensor:
        """(B, C_in, T, H, W) -> (B, C_out, T', 2H, 2W)."""
        return self.refine(self.up(x, state and state.resample), state)


@dataclass(slots=True, kw_only=True)
class Decoder1State(StreamState):
    """State of D1."""

    conv_in: ConvState
    stages: tuple[UpStageState, ...]


class Decoder1(nn.Module):
    """D1: latents at 1/64 to features at 1/16; the mirror of E2."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = (*config.decoder1_channels, config.feature_channels)
        kernel = config.inner_temporal_kernel
        self.conv_in = CausalConv3d(config.code_channels, widths[0], temporal_kernel=kernel)
        self.stages = nn.ModuleList(
            UpStage(widths[i], widths[i + 1], 1, temporal=1, temporal_kernel=kernel, residual=config.residual) for i in range(2)
        )

    def init_state(self, batch_size: int, latent_height: int, latent_width: int) -> Decoder1State:
        """A fresh state for latents of `latent_height` x `latent_width`."""
        return Decoder1State(
            conv_in=self.conv_in.init_state(batch_size, latent_height, latent_width),
            stages=tuple(
                stage.init_state(batch_size, latent_height << i, latent_width << i)  # type: ignore[operator]
                for i, stage in enumerate(self.stages)
            ),
        )

    def forward(self, z: Tensor, state: Decoder1State | None = None) -> Tensor:
        """(B, C_z, T_z, H/64, W/64) -> (B, C_f, T_z, H/16, W/16)."""
        x: Tensor = self.conv_in(z.contiguous(memory_format=torch.channels_last_3d), state and state.conv_in)
        for i, stage in enumerate(self.stages):
            x = stage(x, state and state.stages[i])
        return x


@dataclass(slots=True, kw_only=True)
class Decoder2State(StreamState):
    """State of D2."""

    stages: tuple[UpStageState, ...]
    conv_out: ConvState


class Decoder2(nn.Module):
    """D2: fused features at 1/16 to pixels; the mirror of E1."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = (config.feature_channels, *config.decoder2_channels)
        kernel = config.outer_temporal_kernel
        self.stages = nn.ModuleList(
            UpStage(
                widths[i],
                widths[i + 1],
                config.decoder2_blocks[i],
                temporal=config.temporal_factors[i],
                temporal_kernel=kernel,
                residual=config.residual,
            )
            for i in range(4)
        )
        self.norm_out = ChannelRMSNorm(widths[-1])
        self.conv_out = CausalConv3d(widths[-1], 3, temporal_kernel=kernel)

    def init_state(self, batch_size: int, height: int, width: int) -> Decoder2State:
        """A fresh state for features of `height` x `width` (1/16 of the picture)."""
        return Decoder2State(
            stages=tuple(
                stage.init_state(batch_size, height << i, width << i)  # type: ignore[operator]
                for i, stage in enumerate(self.stages)
            ),
            conv_out=self.conv_out.init_state(batch_size, height * 16, width * 16),
        )

    def forward(self, x: Tensor, state: Decoder2State | None = None) -> Tensor:
        """(B, C_f, T_z, h, w) -> video (B, 3, T, 16h, 16w), nominally in [-1, 1], not clamped."""
        for i, stage in enumerate(self.stages):
            x = stage(x, state and state.stages[i])
        video: Tensor = self.conv_out(F.silu(self.norm_out(x)), state and state.conv_out)
        return video
