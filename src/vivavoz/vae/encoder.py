"""E1 and E2: pictures to the mean and log-variance of the latent, causal in time (paper 3.1, figure II).

Shapes: B batch, C channels, T frames, H height, W width, M references.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.nn.conv import CausalConv3d, CausalResBlock, ConvState, ResBlockState
from vivavoz.nn.norm import ChannelRMSNorm
from vivavoz.nn.resample import CausalDownsample, ResampleState
from vivavoz.nn.stream import StreamState
from vivavoz.vae.config import VAEConfig
from vivavoz.vae.face_map import FaceFeatures, FaceMap, PlaceReader


@dataclass(slots=True, kw_only=True)
class StageState(StreamState):
    """State of a stage: its residual blocks and its change of resolution."""

    blocks: tuple[ResBlockState, ...]
    resample: ResampleState


class DownStage(nn.Module):
    """Residual blocks, then one change of resolution."""

    def __init__(self, c_in: int, c_out: int, num_blocks: int, *, temporal: int, temporal_kernel: int, residual: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CausalResBlock(c_in, temporal_kernel=temporal_kernel) for _ in range(num_blocks))
        self.down = CausalDownsample(c_in, c_out, temporal=temporal, temporal_kernel=temporal_kernel, residual=residual)

    def init_state(self, batch_size: int, height: int, width: int) -> StageState:
        """A fresh state for inputs of `height` x `width`."""
        return StageState(
            blocks=tuple(block.init_state(batch_size, height, width) for block in self.blocks),  # type: ignore[operator]
            resample=self.down.init_state(batch_size, height, width),
        )

    def forward(self, x: Tensor, state: StageState | None = None) -> Tensor:
        """(B, C_in, T, H, W) -> (B, C_out, T', H/2, W/2)."""
        for i, block in enumerate(self.blocks):
            x = block(x, state and state.blocks[i])
        y: Tensor = self.down(x, state and state.resample)
        return y


@dataclass(slots=True, kw_only=True)
class EncoderState(StreamState):
    """State of E1 and E2."""

    conv_in: ConvState
    stages: tuple[StageState, ...]
    conv_out: ConvState


class Encoder1(nn.Module):
    """E1: pixels to features at 1/16 of the side and (after the first frame) 1/4 of the rate."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = (*config.encoder1_channels, config.feature_channels)
        kernel = config.outer_temporal_kernel
        self.conv_in = CausalConv3d(3, widths[0], temporal_kernel=kernel)
        self.stages = nn.ModuleList(
            DownStage(
                widths[i],
                widths[i + 1],
                config.encoder1_blocks[i],
                temporal=config.temporal_factors[i],
                temporal_kernel=kernel,
                residual=config.residual,
            )
            for i in range(4)
        )

    def pyramid(self, pictures: Tensor) -> list[Tensor]:
        """Features of single pictures at 1/2, 1/4, 1/8 and 1/16: (B, 3, H, W) -> four (B, C, h, w), finest first."""
        x = self.conv_in(pictures.unsqueeze(2).contiguous(memory_format=torch.channels_last_3d))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x.squeeze(2))
        return features


class ChannelAffine(nn.Module):
    """A shift, then a gain, for every channel of (B, C, T, H, W)."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(num_channels))
        self.gain = nn.Parameter(torch.ones(num_channels))

    @torch.no_grad()
    def fit_(self, x: Tensor) -> None:
        """Set shift and gain so that every channel of (B, C, T, H, W) comes out with mean 0 and standard deviation 1."""
        spread, mean = torch.std_mean(x.float(), dim=(0, 2, 3, 4))
        self.shift.copy_(-mean)
        self.gain.copy_(1 / (spread + 1e-3))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return (x + self.shift[:, None, None, None]) * self.gain[:, None, None, None]


class Encoder2(nn.Module):
    """E2: features at 1/16, beside them the face's shape where there is a face map, to mean and log-variance at 1/64."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.reader = PlaceReader(config.feature_channels) if config.face_map_channels else None
        widths = (config.feature_channels * (1 if self.reader is None else 2), *config.encoder2_channels)
        kernel = config.inner_temporal_kernel
        self.stages = nn.ModuleList(
            DownStage(widths[i], widths[i + 1], 1, temporal=1, temporal_kernel=kernel, residual=config.residual) for i in range(2)
        )
        self.norm_out = ChannelRMSNorm(widths[-1])
        self.conv_out = CausalConv3d(widths[-1], 2 * config.code_channels, temporal_kernel=kernel)
        self.standard = ChannelAffine(config.feature_channels) if config.standardise_features else nn.Identity()


@dataclass(frozen=True, slots=True)
class Posterior:
    """The diagonal Gaussian q(z | y): `mean` and `log_variance`, each (B, C_z, T_z, H/64, W/64)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw of z, differentiable in mean and variance."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence to N(0, 1), mean over all elements, in nats."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance).mean()


@dataclass(frozen=True, slots=True)
class PictureFeatures:
    """What the encoder sees in single pictures, on the way to their latents."""

    levels: list[Tensor]
    """E1's features at 1/2, 1/4, 1/8 and 1/16, (B, C, h, w) each."""
    face: FaceFeatures | None
    """Those of the face map, where there is one."""


class Encoder(nn.Module):
    """E = E2 after E1, and beside E1 the face map."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.e1 = Encoder1(config)
        self.e2 = Encoder2(config)
        self.face_map = FaceMap(config.face_map_channels) if config.face_map_channels else None

    @property
    def stages(self) -> list[nn.Module]:
        """E1's four stages, then E2's two."""
        return [*self.e1.stages, *self.e2.stages]

    def init_state(self, batch_size: int, height: int, width: int) -> EncoderState:
        """A fresh state for a stream of `height` x `width` pictures."""
        return EncoderState(
            conv_in=self.e1.conv_in.init_state(batch_size, height, width),
            stages=tuple(
                stage.init_state(batch_size, height >> i, width >> i)  # type: ignore[operator]
                for i, stage in enumerate(self.stages)
            ),
            conv_out=self.e2.conv_out.init_state(batch_size, height // 64, width // 64),
        )

    def forward(self, video: Tensor, state: EncoderState | None = None) -> Posterior:
        """(B, 3, T, H, W) in [-1, 1] -> posterior over T_z latents.

        T is 1 + 4n at the start of a stream (also without a state), 4n afterwards; H and W are multiples of 64.
        """
        x = self.e1.conv_in(video.contiguous(memory_format=torch.channels_last_3d), state and state.conv_in)
        for i, stage in enumerate(self.stages):
            if i == len(self.e1.stages):
                places = None if self.face_map is None else self.face_map(video.transpose(1, 2).flatten(0, 1)).places
                x = self._for_e2(x, places)
            x = stage(x, state and state.stages[i])
        x = self.e2.conv_out(F.silu(self.e2.norm_out(x)), state and state.conv_out)
        return self.posterior(x)

    def look(self, pictures: Tensor) -> PictureFeatures:
        """Single pictures (B, 3, H, W) -> what E1 and the face map see in them, so that references pass these only once."""
        return PictureFeatures(self.e1.pyramid(pictures), None if self.face_map is None else self.face_map(pictures))

    def encode_features(self, coarse: Tensor, places: Tensor | None) -> Posterior:
        """E2 on what single pictures gave: E1's features (B, C, H/16, W/16), and the face map's places if there is one."""
        x = self._for_e2(coarse.unsqueeze(2), places)
        for stage in self.e2.stages:
            x = stage(x)
        return self.posterior(self.e2.conv_out(F.silu(self.e2.norm_out(x))))

    def _for_e2(self, x: Tensor, places: Tensor | None) -> Tensor:
        """Features (B, C, T, h, w) with what the places (B*T, ...) of their pictures say beside them."""
        x = self.e2.standard(x)
        if self.e2.reader is None or places is None:
            return x
        shapes = torch.unflatten(self.e2.reader(places), 0, (len(x), -1)).transpose(1, 2)
        return torch.cat([x, shapes], dim=1)

    @staticmethod
    def posterior(moments: Tensor) -> Posterior:
        """Split E2's output; the log-variance is kept in [-20, 10] so that no exponential overflows."""
        mean, log_variance = moments.chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-20, 10))
