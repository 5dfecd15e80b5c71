"""What is given up when a machine is too slow, rung by rung: steps first, then quick reactions. Never sound."""

from __future__ import annotations

from dataclasses import dataclass

_PATIENCE_S = 1.0
"""Time from the first late picture to a rung down, and from one rung to the next: longer leads, and then the rung, have to show
what they are worth."""
_SPELL_S = 10.0
"""Late pictures that are further apart, by more than a block takes, have nothing to do with one another."""
_CALM_S = 20.0
"""Time without a late picture after which the rung above is tried."""
_ROOM = 0.6
"""Share of a block's time that making it may take for that: the rung above takes more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """How blocks are made."""

    num_steps: int
    """Euler steps of a block: fewer are coarser."""
    block_latents: int
    """Latents of a block: more cost less each, and react later."""


def rungs(num_steps: int, block_latents: int, most_block_latents: int) -> list[Rung]:
    """From what was asked for down to the cheapest: half of the steps each time until one is left, then twice the block."""
    ladder = [Rung(num_steps=num_steps, block_latents=block_latents)]
    while num_steps > 1:
        num_steps //= 2
        ladder.append(Rung(num_steps=num_steps, block_latents=block_latents))
    while 2 * block_latents <= most_block_latents:
        block_latents *= 2
        ladder.append(Rung(num_steps=num_steps, block_latents=block_latents))
    return ladder


class Ladder:
    """Where a session stands."""

    def __init__(self, rungs: list[Rung]) -> None:
        self._rungs = rungs
        self._late_at_s = self._tried_at_s = self._rose_at_s = float("-inf")
        self.level = 0
        """0: all as asked for; one more for every rung down."""

    @property
    def rung(self) -> Rung:
        """How the next block is to be made."""
        return self._rungs[self.level]

    def was_late(self, now_s: float, block_s: float) -> None:
        """A picture came too late: a rung down, if others did a while ago, since when nothing has helped.

        `block_s` is what the last block took: what is late comes no more often.
        """
        if now_s - self._late_at_s > _SPELL_S + block_s:
            self._tried_at_s = now_s
        elif now_s - self._tried_at_s > _PATIENCE_S:
            self.level = min(self.level + 1, len(self._rungs) - 1)
            self._tried_at_s = now_s
        self._late_at_s = now_s

    def went_well(self, now_s: float, busy: float) -> None:
        """A block came in time, and blocks lately took the share `busy` of the time they last: after a while, a rung up."""
        if self.level and busy < _ROOM and now_s - max(self._late_at_s, self._rose_at_s) > _CALM_S:
            self.level -= 1
            self._rose_at_s = now_s
