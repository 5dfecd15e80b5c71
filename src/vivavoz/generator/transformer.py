"""The transformer of the generator.

`B F S D`: rows, latent frames, tokens of a latent frame, channels. `B H L D` heads with `L = F * S`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from vivavoz.generator.config import GeneratorConfig
from vivavoz.nn.attention import Past, SelfAttention
from vivavoz.nn.modulation import FlowTimeEmbedding, Modulation, modulate
from vivavoz.nn.rope import Rotation


class CachedPast(NamedTuple):
    """The keys and values of all layers that some rows attend to."""

    keys: Tensor
    """`(b, layers, H, P, D)`."""
    values: Tensor
    """`(b, layers, H, P, D)`."""
    mask: Tensor
    """`(b, 1, 1, P + L)` bool, True = seen."""

    def layer(self, index: int) -> Past:
        """What one layer needs."""
        return Past(self.keys[:, index], self.values[:, index], self.mask)


class Modulations(NamedTuple):
    """What a flow time says to every layer: computed once, used whenever that time comes again."""

    blocks: tuple[tuple[Tensor, ...], ...]
    """Of each block its shifts, scales and gates, `(B or 1, F or 1, 1, D)`."""
    out: tuple[Tensor, ...]
    """Shift and scale of the output layer."""


FlowTime: TypeAlias = Tensor | Modulations
"""A flow time, `(B or 1, F or 1)`, or what it says."""


class TransformerBlock(nn.Module):
    """A plain DiT block: attention and MLP, each modulated and gated by the flow time through one AdaLN projection."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        hidden = int(config.mlp_ratio * config.width)
        self.modulation = Modulation(config.width, 6)
        self.attention = SelfAttention(config.width, num_heads=config.num_heads, head_dim=config.head_dim)
        self.mlp = nn.Sequential(nn.Linear(config.width, hidden), nn.GELU("tanh"), nn.Linear(hidden, config.width))

    def forward(
        self,
        x: Tensor,
        time: Tensor | tuple[Tensor, ...],
        rotation: Rotation,
        mask: Tensor | None = None,
        pasts: Sequence[Past] = (),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`(B, F, S, D)` to the same, and the tokens' keys and values `(B, H, L, D)`.

        `time` is the flow time's embedding, or what this block's modulation made of it before.
        """
        modulation = time if isinstance(time, tuple) else self.modulation(time)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation
        tokens = modulate(x, shift, scale).flatten(1, 2)
        attended, keys, values = self.attention(tokens, rotation, mask=mask, pasts=pasts)
        x = x + gate * attended.unflatten(1, x.shape[1:3])
        x = x + mlp_gate * self.mlp(modulate(x, mlp_shift, mlp_scale))
        return x, keys, values


class Transformer(nn.Module):
    """Blocks and the output layer."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.flow_time = FlowTimeEmbedding(config.width)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.depth))
        self.out_modulation = Modulation(config.width, 2)
        self.out = nn.Linear(config.width, config.latent_channels)

    def forward(
        self,
        x: Tensor,
        flow_time: FlowTime,
        rotation: Rotation,
        *,
        mask: Tensor | None = None,
        pasts: Sequence[CachedPast] = (),
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Run the blocks on `x`, `(B, F, S, D)`, with a flow time per latent frame.

        Returns the last features `(B, F, S, D)` and each layer's keys and values `(B, H, L, D)`.
        """
        own = []
        times = flow_time.blocks if isinstance(flow_time, Modulations) else [self.flow_time(flow_time)] * len(self.blocks)
        for index, (block, time) in enumerate(zip(self.blocks, times, strict=True)):
            x, keys, values = block(x, time, rotation, mask, [past.layer(index) for past in pasts])
            own.append((keys, values))
        return x, own

    def modulations(self, flow_time: Tensor) -> Modulations:
        """What `flow_time`, `(B or 1, F or 1)`, says to every layer."""
        embedding = self.flow_time(flow_time)
        blocks = tuple(block.modulation(embedding) for block in self.blocks)  # type: ignore[operator,union-attr]
        return Modulations(blocks, self.out_modulation(embedding))

    def velocity(self, features: Tensor, flow_time: FlowTime) -> Tensor:
        """Read velocities off the last features of noised latents: `(B, F, S, D) -> (B, F, S, latent_channels)`."""
        shift, scale = flow_time.out if isinstance(flow_time, Modulations) else self.out_modulation(self.flow_time(flow_time))
        velocity: Tensor = self.out(modulate(features, shift, scale))
        return velocity


def stack_layers(own: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Each layer's keys and values `(B, H, L, D)` as `(B, layers, H, L, D)`, ready for the cache."""
    return torch.stack([keys for keys, _ in own], 1), torch.stack([values for _, values in own], 1)
