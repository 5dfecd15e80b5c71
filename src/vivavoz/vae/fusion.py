"""D_ref: frame-wise self-attention on the decoded features, cross-attention to the references' E1 features (paper 3.1).

Shapes: B batch, C channels, T latent frames, M references, L = H*W tokens of a picture, D = head dim; `q_BHLD` names a layout.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.nn.tables import remembered
from vivavoz.vae.config import VAEConfig


@remembered
def axial_rotation(height: int, width: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (L, D/2) of a 2D rotary embedding: half of the pairs turn with the row, half with the column."""
    pairs = head_dim // 4
    frequency = 100.0 ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    angle = torch.cat([rows[:, None] * frequency, columns[:, None] * frequency], dim=1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pairs (i, i + D/2) of (..., L, D) by the angles of `rotation`."""
    cos, sin = rotation
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


@remembered
def centres(count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Where the middles of `count` places in a row lie, (count,), from -1 to 1 between the picture's edges."""
    return (2 * torch.arange(count, device=device, dtype=dtype) + 1) / count - 1


@remembered
def coordinates(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """x and y of every place, (2, height, width), from -1 to 1 between the picture's edges."""
    xs, ys = centres(width, device, dtype), centres(height, device, dtype)
    return torch.stack([xs.expand(height, width), ys[:, None].expand(height, width)])


@dataclass(frozen=True, slots=True)
class FusionMemory:
    """One block's keys and values of the references, each (B, H, M*L, D); computed once per session."""

    key: Tensor
    value: Tensor


class FusionBlock(nn.Module):
    """Self-attention within a frame, cross-attention to the references, MLP; pre-normed, each residual."""

    def __init__(self, width: int, head_dim: int, *, references: bool) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.norm_self = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out_self = nn.Linear(width, width)
        self.norm_mlp = nn.RMSNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.has_references = references
        if references:
            self.norm_cross = nn.RMSNorm(width)
            self.norm_reference = nn.RMSNorm(width)
            self.q = nn.Linear(width, width)
            self.kv = nn.Linear(width, 2 * width)
            self.out_cross = nn.Linear(width, width)

    def _heads(self, x_BLC: Tensor) -> Tensor:
        return torch.unflatten(x_BLC, -1, (-1, self.head_dim)).transpose(1, 2)

    def remember(self, references_BMLC: Tensor, rotation: tuple[Tensor, Tensor]) -> FusionMemory:
        """Keys and values of the references (B, M, L, C); every reference carries the same positions, so they are a set."""
        k, v = self.kv(self.norm_reference(references_BMLC)).chunk(2, dim=-1)
        k = rotate(torch.unflatten(k, -1, (-1, self.head_dim)).transpose(2, 3), rotation)  # B M H L D
        v = torch.unflatten(v, -1, (-1, self.head_dim)).transpose(2, 3)
        return FusionMemory(k.transpose(1, 2).flatten(2, 3), v.transpose(1, 2).flatten(2, 3))

    def forward(self, x_NLC: Tensor, memory: FusionMemory | None, mask: Tensor | None, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """(N = B*T, L, C) -> the same shape. `mask` (B, M*L) is True where a reference token exists."""
        q, k, v = (self._heads(part) for part in self.qkv(self.norm_self(x_NLC)).chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(rotate(q, rotation), rotate(k, rotation), v)
        x_NLC = x_NLC + self.out_self(attended.transpose(1, 2).flatten(2))
        if memory is not None:
            batch = memory.key.shape[0]
            q = rotate(self._heads(self.q(self.norm_cross(x_NLC))), rotation)  # N H L D
            frames, num_tokens = q.shape[0] // batch, q.shape[2]
            q_BHLD = torch.unflatten(q, 0, (batch, frames)).transpose(1, 2).flatten(2, 3)
            attended = F.scaled_dot_product_attention(
                q_BHLD, memory.key, memory.value, attn_mask=None if mask is None else mask[:, None, None, :]
            )
            attended = torch.unflatten(attended, 2, (frames, num_tokens)).permute(0, 2, 3, 1, 4).flatten(3).flatten(0, 1)
            x_NLC = x_NLC + self.out_cross(attended)
        hidden: Tensor = self.mlp(self.norm_mlp(x_NLC))
        return x_NLC + hidden


class ReferenceFusion(nn.Module):
    """D_ref. Acts on every latent frame alone, so it needs no stream state."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.head_dim = config.fusion_head_dim
        self.blocks = nn.ModuleList(
            FusionBlock(config.feature_channels, config.fusion_head_dim, references=config.references)
            for _ in range(config.fusion_blocks)
        )
        self.place = nn.Linear(2, config.feature_channels) if config.coordinates else None

    def remember(self, features: Tensor) -> tuple[FusionMemory, ...]:
        """References' E1 features (B, M, C, H/16, W/16), M >= 1 -> the keys and values of every block."""
        height, width = features.shape[-2:]
        rotation = axial_rotation(height, width, self.head_dim, features.device)
        tokens_BMLC = features.flatten(3).transpose(2, 3)
        return tuple(block.remember(tokens_BMLC, rotation) for block in self.blocks)  # type: ignore[operator]

    def forward(self, x: Tensor, memory: tuple[FusionMemory, ...], mask: Tensor | None = None) -> Tensor:
        """D1's features (B, C, T, H/16, W/16) -> the same shape, fused; an empty `memory` means M = 0.

        `mask` (B, M) is False for references a row does not have.
        """
        b, _, t, h, w = x.shape
        rotation = axial_rotation(h, w, self.head_dim, x.device)
        token_mask = None if mask is None else mask.repeat_interleave(h * w, dim=1)
        tokens_NLC = x.permute(0, 2, 3, 4, 1).reshape(b * t, h * w, -1)
        if self.place is not None:
            tokens_NLC = tokens_NLC + self.place(coordinates(h, w, x.device, x.dtype).flatten(1).T)
        for i, block in enumerate(self.blocks):
            tokens_NLC = block(tokens_NLC, memory[i] if memory else None, token_mask, rotation)
        return tokens_NLC.reshape(b, t, h, w, -1).permute(0, 4, 1, 2, 3)
