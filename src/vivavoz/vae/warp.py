"""The reference warp: a decoder head that bends the person's own photographs instead of painting every pixel.

For every reference it predicts where each pixel of the new picture comes from (a flow), how much brighter it has become (a shade)
and how much to trust it, plus one painted layer with a mask for what no reference shows: the open mouth, uncovered background
(docs/adr/0005-reference-warp.md).
The fields are made at half the side of the VAE's input, and applied to photographs of any size.

Shapes: B batch, M references, C channels, T frames, h w the fields' size, H W the photographs' size.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.nn.conv import CausalConv3d, ConvState
from vivavoz.nn.norm import ChannelRMSNorm
from vivavoz.nn.stream import StreamState
from vivavoz.vae.config import VAEConfig
from vivavoz.vae.decoder import TEMPORAL_FACTORS, UpStage, UpStageState
from vivavoz.vae.fusion import coordinates

NUM_FIELDS = 8
"""Channels the head predicts for a reference: flow x, flow y, confidence, red, green, blue, mask, shade."""

MAX_SHADE = 0.7
"""Largest natural logarithm of the gain a shade can ask for: half or double the light."""


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
    """State of the head's stages; from the second on, a row for every reference of every row."""

    stages: tuple[UpStageState, ...]
    conv_out: ConvState

    def copy_row_(self, row: int, other: Self, other_row: int = 0) -> None:
        """Replace one row, with all its references, by a row of `other` that has as many, in place."""
        (first, second, third), (other_first, other_second, other_third) = self.stages, other.stages
        first.copy_row_(row, other_first, other_row)
        second.resample.copy_row_(row, other_second.resample, other_row)
        per_row = self.conv_out.tail.shape[0] // second.resample.spatial.tail.shape[0]
        per_reference = zip(
            (*second.blocks, third, self.conv_out), (*other_second.blocks, other_third, other.conv_out), strict=True
        )
        for mine, theirs in per_reference:
            for reference in range(per_row):
                mine.copy_row_(row * per_row + reference, theirs, other_row * per_row + reference)


class ReferenceWarp(nn.Module):
    """Takes D2's place: fused features at 1/16, and the references' fine E1 features, to warp fields at 1/2."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        assert config.warp is not None
        self.max_offset = config.warp.max_offset
        kernel = config.outer_temporal_kernel
        widths = (config.feature_channels, *config.decoder2_channels[:3])
        self.stages = nn.ModuleList(
            UpStage(
                widths[i],
                widths[i + 1],
                config.decoder2_blocks[i],
                temporal=TEMPORAL_FACTORS[i],
                temporal_kernel=kernel,
                residual=config.residual,
            )
            for i in range(3)
        )
        # E1's features of a reference at 1/4 and 1/2 tell the head where this person's lips and lids are.
        self.num_coordinates = 2 if config.coordinates else 0
        self.join_quarter = nn.Conv2d(config.encoder1_channels[2] + self.num_coordinates, widths[2], 1)
        self.join_half = nn.Conv2d(config.encoder1_channels[1] + self.num_coordinates, widths[3], 1)
        self.norm_out = ChannelRMSNorm(widths[3])
        self.conv_out = CausalConv3d(widths[3], NUM_FIELDS, temporal_kernel=kernel)
        nn.init.zeros_(self.conv_out.weight)
        assert self.conv_out.bias is not None
        with torch.no_grad():
            self.conv_out.bias.copy_(torch.tensor([0.0, 0, 0, 0, 0, 0, -4, 0]))  # untrained: the reference itself

    def init_state(self, batch_size: int, num_references: int, height: int, width: int) -> WarpState:
        """A fresh state for features of `height` x `width` (1/16 of the VAE's input)."""
        rows = batch_size * max(num_references, 1)
        first, second, third = self.stages
        state = second.init_state(batch_size, 2 * height, 2 * width)  # type: ignore[operator]
        state.blocks = second.init_state(rows, 2 * height, 2 * width).blocks  # type: ignore[operator]
        return WarpState(
            stages=(
                first.init_state(batch_size, height, width),  # type: ignore[operator]
                state,
                third.init_state(rows, 4 * height, 4 * width),  # type: ignore[operator]
            ),
            conv_out=self.conv_out.init_state(rows, 8 * height, 8 * width),
        )

    def remember(self, quarter: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
        """Project E1's features (B, M, C, ., .) at 1/4 and 1/2 once per session."""
        return self._join(self.join_quarter, quarter), self._join(self.join_half, half)

    def _join(self, projection: nn.Conv2d, features: Tensor) -> Tensor:
        rows = features.flatten(0, 1)
        if self.num_coordinates:
            places = coordinates(int(rows.shape[2]), int(rows.shape[3]), rows)
            rows = torch.cat([rows, places.expand(len(rows), -1, -1, -1)], dim=1)
        joined: Tensor = projection(rows)
        return torch.unflatten(joined, 0, features.shape[:2])

    def forward(
        self, x: Tensor, memory: tuple[Tensor, Tensor] | None, mask: Tensor | None = None, state: WarpState | None = None
    ) -> WarpFields:
        """(B, C_f, T_z, h/8, w/8) -> fields for T frames. `memory` from `remember`, None for M = 0; `mask` (B, M)."""
        first, second, third = self.stages
        b = x.shape[0]
        x = first(x, state and state.stages[0])
        x = second.up(x, state and state.stages[1].resample)  # type: ignore[operator]
        if memory is not None:
            quarter, half = memory
            x = (x.unsqueeze(1) + quarter.unsqueeze(3)).flatten(0, 1).contiguous(memory_format=torch.channels_last_3d)
        x = second.refine(x, state and state.stages[1])  # type: ignore[operator]
        x = third.up(x, state and state.stages[2].resample)  # type: ignore[operator]
        if memory is not None:
            x = x + half.flatten(0, 1).unsqueeze(2)
        x = third.refine(x, state and state.stages[2])  # type: ignore[operator]
        x = self.conv_out(F.silu(self.norm_out(x)), state and state.conv_out).unflatten(0, (b, -1))

        logits = x[:, :, 2:3]
        if mask is not None:
            logits = logits.masked_fill(~mask[:, :, None, None, None, None], -torch.inf)
        confidence = logits.softmax(dim=1)
        layer = (confidence * x[:, :, 3:7]).sum(dim=1)
        return WarpFields(
            flow=2 * self.max_offset * torch.tanh(x[:, :, :2]),
            confidence=confidence,
            shade=torch.exp(MAX_SHADE * torch.tanh(x[:, :, 7:])),
            paint=torch.tanh(layer[:, :3]),
            mask=layer[:, 3:],
        )


def resize_frames(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear change of size of the last two axes of (..., T, h, w)."""
    frames = x.reshape(-1, 1, *x.shape[-2:])
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False).reshape(*x.shape[:-2], *size)


def sample_photos(photos: Tensor, flow: Tensor) -> Tensor:
    """Fetch every pixel from where the flow says: photos (B, M, 3, H, W), flow (B, M, 2, T, H, W) -> (B, M, 3, T, H, W)."""
    b, m, _, t, h, w = flow.shape
    ys = (2 * torch.arange(h, device=flow.device, dtype=flow.dtype) + 1) / h - 1
    xs = (2 * torch.arange(w, device=flow.device, dtype=flow.dtype) + 1) / w - 1
    grid = torch.stack([flow[:, :, 0] + xs, flow[:, :, 1] + ys[:, None]], dim=-1)  # B M T H W 2
    out = F.grid_sample(
        photos.flatten(0, 1), grid.reshape(b * m, t * h, w, 2), mode="bilinear", padding_mode="border", align_corners=False
    )
    return out.reshape(b, m, 3, t, h, w)


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
