"""The reference warp: a decoder head that bends the person's own photographs instead of painting every pixel.

For every reference it predicts where each pixel of the new picture comes from (a flow), how much brighter it has become (a shade)
and how much to trust it, plus one painted layer with a mask for what no reference shows: the open mouth, uncovered background
(docs/adr/0005-reference-warp.md).
The fields are made at half the side of the VAE's input, and applied to photographs of any size.

Shapes: B batch, M references, C channels, T frames, h w the fields' size, H W the photographs' size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.nn.conv import CausalConv3d, CausalResBlock, ConvState
from vivavoz.nn.norm import ChannelRMSNorm
from vivavoz.nn.resample import split_first
from vivavoz.nn.stream import StreamState
from vivavoz.vae.bases import MotionBases
from vivavoz.vae.config import VAEConfig
from vivavoz.vae.decoder import UpStage, UpStageState
from vivavoz.vae.face_map import NUM_WAVES, FaceFeatures
from vivavoz.vae.fusion import centres, coordinates

NUM_FIELDS = 8
"""Channels the head predicts for a reference: flow x, flow y, confidence, red, green, blue, mask, shade."""

FLOW_SCALES = (0.1, 0.05, 0.02)
"""What 1 from the convolutions at 1/8, 1/4 and 1/2 means as a flow, in grid_sample units: about a cell of the fields. Without it
a single step of the optimizer moves pictures by whole cells."""

MAX_SHADE = 0.7
"""Largest natural logarithm of the gain a shade can ask for: half or double the light."""

Memory: TypeAlias = tuple[Tensor, ...]
"""Features of the references (B, M, C, ., .) at 1/8, 1/4 and 1/2 of the input's side, and their bases where there are any."""


@dataclass(frozen=True, slots=True)
class WarpFields:
    """What the head predicts, at the fields' size."""

    flow: Tensor
    """(B, M, 2, T, h, w): x and y offset from a pixel to its source, in grid_sample units (2 = the picture's side)."""
    confidence: Tensor
    """(B, M, 1, T, h, w): weights of the references; they sum to 1 over M."""
    shade: Tensor
    """(B, M, 1, T, h, w): gain of the warped reference's light; 1 leaves it."""
    paint: Tensor
    """(B, 3, T, h, w): the painted layer in [-1, 1]."""
    mask: Tensor
    """(B, 1, T, h, w): logits of how far the painted layer covers the warped references."""

    def float(self) -> WarpFields:
        """The same fields in float32."""
        return WarpFields(*(getattr(self, field.name).float() for field in dataclass_fields(self)))

    def frames(self, start: int, stop: int) -> WarpFields:
        """The fields of some frames, a view."""
        return WarpFields(*(getattr(self, field.name)[..., start:stop, :, :] for field in dataclass_fields(self)))


@dataclass(slots=True, kw_only=True)
class WarpState(StreamState):
    """State of the head's stages; after the first change of resolution, a row for every reference of every row."""

    stages: tuple[UpStageState, ...]
    conv_out: ConvState

    def copy_row_(self, row: int, other: Self, other_row: int = 0) -> None:
        """Replace one row, with all its references, by a row of `other` that has as many, in place."""
        (first, *later), (other_first, *other_later) = self.stages, other.stages
        first.resample.copy_row_(row, other_first.resample, other_row)
        per_row = self.conv_out.tail.shape[0] // first.resample.spatial.tail.shape[0]
        per_reference = zip(
            (*first.blocks, *later, self.conv_out), (*other_first.blocks, *other_later, other.conv_out), strict=True
        )
        for mine, theirs in per_reference:
            for reference in range(per_row):
                mine.copy_row_(row * per_row + reference, theirs, other_row * per_row + reference)


class ReferencePyramid(nn.Module):
    """E1's features of a reference from coarse to fine, every finer level told what the coarser ones saw.

    A lip's edge looks like many others; only what lies around it says that it is a lip. Runs once per session.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = (config.feature_channels, *config.decoder2_channels[:3])
        self.context = CausalResBlock(widths[0], temporal_kernel=1)
        self.motion = nn.Conv2d(widths[0], widths[0], 1) if config.reference_motion else None
        if self.motion is not None:
            nn.init.zeros_(self.motion.weight)
        self.stages = nn.ModuleList(
            UpStage(widths[i], widths[i + 1], 1, temporal=1, temporal_kernel=1, residual=config.residual) for i in range(3)
        )
        self.num_coordinates = 2 if config.coordinates else 0
        self.joins = nn.ModuleList(
            nn.Conv2d(config.encoder1_channels[3 - i] + self.num_coordinates, widths[i + 1], 1) for i in range(3)
        )
        self.face_joins = nn.ModuleList(
            nn.Conv2d(width + NUM_WAVES, widths[3 - i], 1) for i, width in enumerate(config.face_map_channels[:3])
        )

    def forward(
        self, features: list[Tensor], motion: Tensor | None = None, face: FaceFeatures | None = None
    ) -> tuple[Tensor, ...]:
        """E1's pyramid (R, C, h, w) at 1/2, 1/4, 1/8, 1/16 -> three maps (R, C', h, w) at 1/8, 1/4, 1/2.

        `motion` (R, C, h, w) at 1/16 is D1 of the reference's own latent: its pose, in the terms of the frames to come;
        `face` what the face map saw.
        """
        *finer, coarsest = features
        if self.motion is not None and motion is not None:
            coarsest = coarsest + self.motion(motion)
        x = self.context(coarsest.unsqueeze(2))
        levels = []
        for i, (stage, join, level) in enumerate(zip(self.stages, self.joins, reversed(finer), strict=True)):
            if self.num_coordinates:
                places = coordinates(int(level.shape[2]), int(level.shape[3]), level.device, level.dtype)
                level = torch.cat([level, places.expand(len(level), -1, -1, -1)], dim=1)
            joined = join(level)
            if face is not None:
                joined = joined + self.face_joins[2 - i](face.levels[2 - i])
            x = stage.refine(stage.up(x) + joined.unsqueeze(2))  # type: ignore[operator]
            levels.append(x.squeeze(2))
        return tuple(levels)


class ReferenceWarp(nn.Module):
    """Takes D2's place: fused features at 1/16, and the references' fine features, to warp fields at 1/2.

    The flow is found from coarse to fine: at 1/8, then at 1/4 and 1/2, where each reference's features are first brought to
    where the coarser flow says they belong, so that only the rest is left to find.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        assert config.warp is not None
        self.max_flow = 2 * config.warp.max_offset
        self.temporal_factors = config.temporal_factors
        kernel = config.outer_temporal_kernel
        widths = (config.feature_channels, *config.decoder2_channels[:3])
        self.stages = nn.ModuleList(
            UpStage(
                widths[i],
                widths[i + 1],
                config.decoder2_blocks[i],
                temporal=config.temporal_factors[i],
                temporal_kernel=kernel,
                residual=config.residual,
            )
            for i in range(3)
        )
        self.pyramid = ReferencePyramid(config)
        self.coarse_norms = nn.ModuleList(ChannelRMSNorm(width) for width in widths[1:3])
        self.coarse_flows = nn.ModuleList(CausalConv3d(width, 2, temporal_kernel=1) for width in widths[1:3])
        seen = widths[3] + (config.face_map_channels[0] + NUM_WAVES if config.face_map_channels else 0)
        self.bases = MotionBases(seen, len(config.warp.basis_codes)) if config.warp.basis_codes else None
        self.norm_out = ChannelRMSNorm(widths[3])
        self.conv_out = CausalConv3d(widths[3], NUM_FIELDS, temporal_kernel=kernel)
        for conv in (*self.coarse_flows, self.conv_out):  # untrained: the reference itself
            nn.init.zeros_(conv.weight)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.conv_out.bias[6] = -4  # type: ignore[index]

    def init_state(self, batch_size: int, num_references: int, height: int, width: int) -> WarpState:
        """A fresh state for features of `height` x `width` (1/16 of the VAE's input)."""
        rows = batch_size * max(num_references, 1)
        stages = [
            stage.init_state(rows, height << i, width << i)  # type: ignore[operator]
            for i, stage in enumerate(self.stages)
        ]
        stages[0].resample = self.stages[0].init_state(batch_size, height, width).resample  # type: ignore[operator]
        return WarpState(stages=tuple(stages), conv_out=self.conv_out.init_state(rows, 8 * height, 8 * width))

    def remember(
        self, features: list[Tensor], motion: Tensor | None, face: FaceFeatures | None, *, num_references: int
    ) -> Memory:
        """What the head keeps of references, once per session, from E1's pyramid of them (B*M, C, ., .), finest first.

        `motion` (B*M, C, h, w) and `face`: see `ReferencePyramid`.
        """
        memory = self.pyramid(features, motion, face)
        if self.bases is not None:
            seen = memory[-1] if face is None else torch.cat([memory[-1], face.levels[0]], dim=1)
            memory = (*memory, self.bases.read(seen))
        return tuple(torch.unflatten(level, 0, (-1, num_references)) for level in memory)

    def in_steps(
        self,
        x: Tensor,
        memory: Memory | None,
        mask: Tensor | None = None,
        state: WarpState | None = None,
        amounts: Tensor | None = None,
    ) -> Iterator[WarpFields | None]:
        """(B, C_f, T_z, h/8, w/8) -> None after every resolution, for those who may lose interest, and at last the fields for T
        frames. `memory` from `remember`, None for M = 0; `mask` (B, M).

        `amounts` (B*M, K, T): how far frames are from each reference, by the codes that have a basis.
        """
        b = x.shape[0]
        flow, along = x.new_zeros(()), x.new_zeros(())
        for i, stage in enumerate(self.stages):
            own = None if state is None else state.stages[i]
            is_start = own is None or own.resample.is_start
            x = stage.up(x, own and own.resample)  # type: ignore[operator]
            if i:
                flow = _finer(flow, self.temporal_factors[i], is_start=is_start)
            if memory is not None:
                if i == 0:
                    x = (x.unsqueeze(1) + memory[0].unsqueeze(3)).flatten(0, 1).contiguous(memory_format=torch.channels_last_3d)
                else:
                    place = self._limit(flow.detach())
                    x = x + sample_features(memory[i].flatten(0, 1), place)
                    if self.bases is not None and amounts is not None and i == 2:
                        along = sample_frames(self.bases(memory[3].flatten(0, 1), amounts), place)
            x = stage.refine(x, own)  # type: ignore[operator]
            if i < 2:
                flow = flow + FLOW_SCALES[i] * self.coarse_flows[i](F.silu(self.coarse_norms[i](x)))
            yield None
        x = self.conv_out(F.silu(self.norm_out(x)), state and state.conv_out)
        flow = (flow + FLOW_SCALES[2] * (x[:, :2] + along)).unflatten(0, (b, -1))
        x = x.unflatten(0, (b, -1))

        logits = x[:, :, 2:3]
        if mask is not None:
            logits = logits.masked_fill(~mask[:, :, None, None, None, None], -torch.inf)
        confidence = logits.softmax(dim=1)
        layer = (confidence * x[:, :, 3:7]).sum(dim=1)
        yield WarpFields(
            flow=self._limit(flow),
            confidence=confidence,
            shade=torch.exp(MAX_SHADE * torch.tanh(x[:, :, 7:])),
            paint=torch.tanh(layer[:, :3]),
            mask=layer[:, 3:],
        )

    def _limit(self, flow: Tensor) -> Tensor:
        return self.max_flow * torch.tanh(flow / self.max_flow)


def _finer(flow: Tensor, temporal: int, *, is_start: bool) -> Tensor:
    """A flow (R, 2, T, h, w) at twice the side, every moment (but a stream's first) `temporal` times."""
    if temporal > 1:
        flow = split_first(flow, lambda later: later.repeat_interleave(temporal, dim=2), is_start=is_start)
    return resize_frames(flow, (2 * int(flow.shape[-2]), 2 * int(flow.shape[-1])))


def sample_features(features: Tensor, flow: Tensor) -> Tensor:
    """Fetch features (R, C, h, w) from where the flow (R, 2, T, h, w) says: (R, C, T, h, w)."""
    return sample_photos(features.unsqueeze(1), flow.unsqueeze(1)).squeeze(1)


def sample_frames(frames: Tensor, flow: Tensor) -> Tensor:
    """The same where every frame has features of its own: (R, C, T, h, w)."""
    t = frames.shape[2]
    found = sample_features(frames.transpose(1, 2).flatten(0, 1), flow.transpose(1, 2).flatten(0, 1).unsqueeze(2))
    return found.squeeze(2).unflatten(0, (-1, t)).transpose(1, 2)


def resize_frames(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear change of size of the last two axes of (..., T, h, w)."""
    frames = x.reshape(-1, 1, *x.shape[-2:])
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False).reshape(*x.shape[:-2], *size)


def sample_photos(photos: Tensor, flow: Tensor) -> Tensor:
    """Fetch every pixel from where the flow says: photos (B, M, C, H, W), flow (B, M, 2, T, h, w) -> (B, M, C, T, h, w)."""
    b, m, _, t, h, w = flow.shape
    xs, ys = centres(w, flow.device, flow.dtype), centres(h, flow.device, flow.dtype)
    grid = torch.stack([flow[:, :, 0] + xs, flow[:, :, 1] + ys[:, None]], dim=-1)  # B M T H W 2
    out = F.grid_sample(
        photos.flatten(0, 1), grid.reshape(b * m, t * h, w, 2), mode="bilinear", padding_mode="border", align_corners=False
    )
    return out.reshape(b, m, -1, t, h, w)


def compose(fields: WarpFields, photos: Tensor | None, size: tuple[int, int]) -> Tensor:
    """Confidence-weighted sum of the warped, shaded photographs under the painted layer -> video (B, 3, T, *size), nominally in
    [-1, 1].

    Without photographs (M = 0) the painted layer is all there is.
    """
    paint = resize_frames(fields.paint, size)
    if photos is None:
        return paint
    warped = sample_photos(photos, resize_frames(fields.flow, size))
    # Light is warped + 1. The confidences sum to 1, so one field carries both weight and gain.
    lights = resize_frames(fields.confidence * fields.shade, size) * (warped + 1)
    picture = (lights.sum(dim=1) if lights.shape[1] > 1 else lights.squeeze(1)) - 1
    return torch.lerp(picture, paint, resize_frames(fields.mask, size).sigmoid())
