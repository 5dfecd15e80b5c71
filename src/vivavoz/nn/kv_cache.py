"""Preallocated keys and values of a whole transformer.

`B` rows, `H` heads, `L` token slots, `D` head channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from vivavoz.nn.stream import StreamState


@dataclass(slots=True, kw_only=True)
class KVCache(StreamState):
    """Keys and values of all layers, `(B, layers, H, L, D)` each. Written in place, never grown."""

    keys: Tensor
    values: Tensor

    @classmethod
    def empty(
        cls,
        batch_size: int,
        *,
        num_layers: int,
        num_heads: int,
        capacity_tokens: int,
        head_dim: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """A cache of zeros."""
        shape = (batch_size, num_layers, num_heads, capacity_tokens, head_dim)
        return cls(
            keys=torch.zeros(shape, device=device, dtype=dtype),
            values=torch.zeros(shape, device=device, dtype=dtype),
        )

    @property
    def capacity_tokens(self) -> int:
        """Token slots of every row."""
        return self.keys.shape[3]

    def write_(self, keys: Tensor, values: Tensor, start: Tensor) -> None:
        """Write `n` consecutive tokens of every layer, `(B, layers, H, n, D)`, at each row's own slot `start`, `(B,)` int64.

        Gradients stop here. The start is a tensor: rows may stand at different slots, and no step waits for its value.
        """
        slots = start[:, None] + torch.arange(keys.shape[3], device=keys.device)
        index = slots[:, None, None, :, None].expand(keys.shape)
        self.keys.scatter_(3, index, keys.detach().to(self.keys.dtype))
        self.values.scatter_(3, index, values.detach().to(self.values.dtype))
