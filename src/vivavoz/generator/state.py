"""The stream of a generator: cached keys and values of the references and of the window's committed latents.

`B` rows, `R` reference slots, `W` latent frames of a window, `S` tokens of a latent frame. A cache's token slots are
`[R * S references, W * S window]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from vivavoz.generator.transformer import CachedPast
from vivavoz.nn.kv_cache import KVCache
from vivavoz.nn.stream import StreamState, join, part_


class CacheRead(Enum):
    """How attention reads a partly filled cache; the results agree."""

    MASKED = "masked"
    """All slots, the empty ones masked: shapes never change, so a step compiles once and can be captured."""
    FILLED = "filled"
    """Only the slots that the fullest row has filled: less work without a compiler, other shapes at every block."""


@dataclass(slots=True, kw_only=True)
class ContextState(StreamState):
    """One branch's cached context. Guidance without references needs one of its own."""

    cache: KVCache
    reference_mask: Tensor
    """`(B, R)` bool, True where the row's reference slot is filled."""
    filled_latents: Tensor
    """`(B,)` int64, committed latent frames of the window: the next block's position in time."""
    started: Tensor
    """`(B,)` bool, whether any latent of the video has been committed."""

    @property
    def num_references(self) -> int:
        """Reference slots `R`."""
        return self.reference_mask.shape[1]

    def times(self, num_latents: int) -> Tensor:
        """Time positions of the next `num_latents` latents, `(B, num_latents)` int64."""
        return self.filled_latents[:, None] + torch.arange(num_latents, device=self.filled_latents.device)

    def past(self, tokens_per_latent: int, block_tokens: int, filled_latents: int | None) -> CachedPast:
        """What a block of `block_tokens` attends to; with `filled_latents`, only that many of the window's latents are read."""
        window_tokens = self.cache.capacity_tokens - self.num_references * tokens_per_latent
        if filled_latents is not None:
            window_tokens = filled_latents * tokens_per_latent
        references = self.reference_mask.repeat_interleave(tokens_per_latent, 1)
        slots = torch.arange(window_tokens, device=references.device) // tokens_per_latent
        window = slots < self.filled_latents[:, None]
        own = references.new_ones(references.shape[0], block_tokens)
        length = references.shape[1] + window_tokens
        return CachedPast(
            keys=self.cache.keys[:, :, :, :length],
            values=self.cache.values[:, :, :, :length],
            mask=torch.cat([references, window, own], 1)[:, None, None],
        )

    def write_(self, keys: Tensor, values: Tensor, num_latents: int) -> None:
        """Append a block's keys and values `(B, layers, H, num_latents * S, D)` to the window and advance, in place."""
        tokens_per_latent = keys.shape[3] // num_latents
        self.cache.write_(keys, values, (self.num_references + self.filled_latents) * tokens_per_latent)
        self.filled_latents.add_(num_latents)
        self.started.fill_(True)


@dataclass(slots=True, kw_only=True)
class GeneratorState(StreamState):
    """The stream of a batch of videos; `Generator.init_state` makes one, `Generator.commit` advances it.

    Rows may stand at different places of their windows: these are tensors. The phases are those of the row furthest on.
    """

    full: ContextState
    """Context of the conditioned branch; clean context carries no audio, so the branch without audio reads it too."""
    no_reference: ContextState | None
    """Context of the branch without references; None where there is no guidance."""
    cache_read: CacheRead
    window_latents: int = 0
    """Committed latent frames of the window."""
    video_latents: int = 0
    """Committed latent frames of the video."""

    @property
    def starts_video(self) -> bool:
        """Whether the next block is the video's first."""
        return self.video_latents == 0

    def contexts(self) -> list[ContextState]:
        """The contexts there are: full, then without references."""
        return [self.full] if self.no_reference is None else [self.full, self.no_reference]

    @staticmethod
    def joined(rows: Sequence[GeneratorState]) -> GeneratorState:
        """Some videos' states as one batch: a copy, or, of one alone, itself. They may stand at different places."""
        first = rows[0]
        if len(rows) == 1:
            return first
        return GeneratorState(
            full=join([row.full for row in rows]),
            no_reference=None if first.no_reference is None else join([row.no_reference for row in rows if row.no_reference]),
            cache_read=first.cache_read,
            window_latents=max(row.window_latents for row in rows),
            video_latents=max(row.video_latents for row in rows),
        )

    def part_(self, rows: Sequence[GeneratorState]) -> None:
        """Give the tensors of `joined(rows)` back to `rows`, in place; every row keeps its own phases."""
        for index, context in enumerate(self.contexts()):
            part_(context, [row.contexts()[index] for row in rows])

    def advance_(self, num_latents: int) -> None:
        """Count a block that was written."""
        self.window_latents += num_latents
        self.video_latents += num_latents

    def empty_window_(self) -> None:
        """Forget the window's latents in place; references and the place in the video stay."""
        for context in self.contexts():
            context.filled_latents.zero_()
        self.window_latents = 0

    def restart_(self) -> None:
        """Back to the start of a video in place, with the references kept."""
        self.empty_window_()
        for context in self.contexts():
            context.started.zero_()
        self.video_latents = 0
