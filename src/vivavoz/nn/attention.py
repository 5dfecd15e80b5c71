"""Multi-head self-attention, alone or behind a cached past.

`B L D` tokens, `B H L D` heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivavoz.nn.rope import Rotation, rotate


class Past(NamedTuple):
    """One layer's cached keys and values that some rows of the batch attend to, before themselves."""

    keys: Tensor
    """`(b, H, P, D)`, already rotated."""
    values: Tensor
    """`(b, H, P, D)`."""
    mask: Tensor
    """`(b, 1, 1, P + L)` bool, True where a key may be seen; the last `L` columns are the tokens themselves."""


class SelfAttention(nn.Module):
    """Self-attention with RMS-normalised, rotated queries and keys (3D RoPE, section 4.1)."""

    def __init__(self, width: int, *, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.qkv = nn.Linear(width, 3 * num_heads * head_dim)
        self.query_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.key_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.out = nn.Linear(num_heads * head_dim, width)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation,
        *,
        mask: Tensor | None = None,
        pasts: Sequence[Past] = (),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend within `x`, `(B, L, width)`, and to the past where there is one.

        Without `pasts`, `mask` (bool, broadcast to `(B, H, L, L)`, True = seen) says who sees whom. With `pasts`, the batch is
        split between them in order (their rows add up to `B`), all tokens of `x` see each other, and `mask` is not used.
        Returns the result `(B, L, width)` and the tokens' own keys and values `(B, H, L, D)`, ready to be cached.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        queries = rotate(_normalise(queries, self.query_norm), rotation)
        keys = rotate(_normalise(keys, self.key_norm), rotation)
        if pasts:
            attended = self._attend_to_pasts(queries, keys, values, pasts)
        else:
            attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.out(attended.transpose(1, 2).flatten(2)), keys, values

    def _attend_to_pasts(self, queries: Tensor, keys: Tensor, values: Tensor, pasts: Sequence[Past]) -> Tensor:
        sizes = [past.keys.shape[0] for past in pasts]
        attended = [
            F.scaled_dot_product_attention(
                q,
                torch.cat([past.keys.to(k.dtype), k], 2),
                torch.cat([past.values.to(v.dtype), v], 2),
                attn_mask=past.mask,
            )
            for q, k, v, past in zip(*(torch.split(x, sizes) for x in (queries, keys, values)), pasts, strict=True)
        ]
        return torch.cat(attended)


def _normalise(x: Tensor, norm: nn.RMSNorm) -> Tensor:
    # Under autocast the weight stays float32; the fused kernel wants one dtype (and computes in float32 inside).
    assert norm.weight is not None
    return F.rms_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.eps)
