"""How fast blocks were made lately: what to expect of the next. Two threads may use it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

from vivavoz.timing import FRAME_RATE

_FIRST_GUESS_S = 0.12
"""A usual block, before any has been made."""
_REMEMBERED_WAITS, _REMEMBERED_BLOCKS = 40, 8
"""Blocks that are looked back on: what kept one waiting, such as another program, comes again within seconds."""
_FIXED = 0.25
"""Share of a block's time that does not grow with it."""

_QUICK_SHARE = 0.6
"""Of the start of other blocks: that of the first one after an interruption, while there was none."""


@dataclass(slots=True)
class Progress:
    """How far the block is that is being made."""

    num_pictures: int = 0
    first_s: float = 0.0
    """How long after it was begun the first of them came."""
    start_s: float = 0.0
    """How long before its first moment it had to be begun, for each of its pictures to be there at its own."""

    def add(self, num_pictures: int, making_s: float) -> None:
        """Pictures have come, so long after the block was begun."""
        self.first_s = self.first_s or making_s
        self.start_s = max(self.start_s, making_s - self.num_pictures / FRAME_RATE)
        self.num_pictures += num_pictures


class Pace:
    """Times of a session's blocks, by their size in latents.

    A block is made in `making_s`. For each of its pictures to be there at its own moment it has to be begun `start_s` before its
    first one, and, as the maker may be busy, wanted `wait_s` before.
    """

    def __init__(self, block_latents: int) -> None:
        self._waits_s: dict[int, deque[float]] = {block_latents: deque([_FIRST_GUESS_S], maxlen=_REMEMBERED_WAITS)}
        self._starts_s: dict[int, deque[float]] = {block_latents: deque([_FIRST_GUESS_S], maxlen=_REMEMBERED_BLOCKS)}
        self._makings_s: dict[int, deque[float]] = {block_latents: deque([_FIRST_GUESS_S], maxlen=_REMEMBERED_BLOCKS)}
        self._quick_firsts_s: deque[float] = deque(maxlen=_REMEMBERED_BLOCKS)
        self._quick_starts_s: deque[float] = deque(maxlen=_REMEMBERED_BLOCKS)

    def was_quick(self, *, first_s: float, start_s: float) -> None:
        """The first block after an interruption was made: its pictures come sooner than those of others."""
        self._quick_firsts_s.append(first_s)
        self._quick_starts_s.append(start_s)

    def was(self, block_latents: int, *, wait_s: float, start_s: float, making_s: float) -> None:
        """Another block was made."""
        self._waits_s.setdefault(block_latents, deque(maxlen=_REMEMBERED_WAITS)).append(wait_s)
        self._starts_s.setdefault(block_latents, deque(maxlen=_REMEMBERED_BLOCKS)).append(start_s)
        self._makings_s.setdefault(block_latents, deque(maxlen=_REMEMBERED_BLOCKS)).append(making_s)

    def wait_s(self, block_latents: int) -> float:
        """The longest of the last forty blocks of this size."""
        return max(_expected(self._waits_s, block_latents, fixed=1.0))

    def start_s(self, block_latents: int) -> float:
        """The mean of the last three."""
        return _mean_of_newest(_expected(self._starts_s, block_latents, fixed=1.0))

    def quick_start_s(self, block_latents: int, *, can_wait: bool) -> float:
        """After an interruption: the median of the last eight. Pictures that can wait need only the first to be in time."""
        known_s = self._quick_firsts_s if can_wait else self._quick_starts_s
        return median(known_s or [_QUICK_SHARE * min(_expected(self._starts_s, block_latents, fixed=1.0))])

    def making_s(self, block_latents: int) -> float:
        """The mean of the last three."""
        return _mean_of_newest(_expected(self._makings_s, block_latents, fixed=_FIXED))


def _expected(times_s: dict[int, deque[float]], block_latents: int, *, fixed: float) -> list[float]:
    """Times of such blocks; if there were none, what those of another size let expect: a `fixed` share does not grow with it."""
    if block_latents in times_s:
        return list(times_s[block_latents])
    known = min(list(times_s), key=lambda size: abs(size - block_latents))
    ratio = block_latents / known
    return [time_s * (fixed + (1 - fixed) * ratio) for time_s in times_s[known]]


def _mean_of_newest(times_s: list[float]) -> float:
    newest = times_s[-3:]
    return sum(newest) / len(newest)
