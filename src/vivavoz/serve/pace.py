"""How fast blocks were made lately: what to expect of the next. Two threads may use it."""

from __future__ import annotations

from collections import deque

_FIRST_GUESS_S = 0.12
"""A usual block, before any has been made."""
_REMEMBERED_WAITS, _REMEMBERED_MAKINGS = 40, 8
"""Blocks that are looked back on: what kept one waiting, such as another program, comes again within seconds."""
_FIXED = 0.25
"""Share of a block's time that does not grow with it."""


class Pace:
    """Times of a session's blocks, by their size in latents."""

    def __init__(self, block_latents: int) -> None:
        self._waits_s: dict[int, deque[float]] = {block_latents: deque([_FIRST_GUESS_S], maxlen=_REMEMBERED_WAITS)}
        self._makings_s: dict[int, deque[float]] = {block_latents: deque([_FIRST_GUESS_S], maxlen=_REMEMBERED_MAKINGS)}

    def was(self, block_latents: int, *, wait_s: float, making_s: float) -> None:
        """A block was made, in `making_s`, `wait_s` after it was wanted."""
        self._waits_s.setdefault(block_latents, deque(maxlen=_REMEMBERED_WAITS)).append(wait_s)
        self._makings_s.setdefault(block_latents, deque(maxlen=_REMEMBERED_MAKINGS)).append(making_s)

    def wait_s(self, block_latents: int) -> float:
        """The longest of the last forty waits for such a block."""
        return max(_expected(self._waits_s, block_latents))

    def making_s(self, block_latents: int) -> float:
        """What it takes to make such a block: the mean of the last three."""
        newest = _expected(self._makings_s, block_latents)[-3:]
        return sum(newest) / len(newest)

    def quickest_s(self, block_latents: int) -> float:
        """What it takes if all goes well: the shortest of the last eight."""
        return min(_expected(self._makings_s, block_latents))


def _expected(times_s: dict[int, deque[float]], block_latents: int) -> list[float]:
    """Times of such blocks; if there were none, what those of another size let expect."""
    if block_latents in times_s:
        return list(times_s[block_latents])
    known = min(list(times_s), key=lambda size: abs(size - block_latents))
    ratio = block_latents / known
    return [time_s * (_FIXED + (1 - _FIXED) * ratio) for time_s in times_s[known]]
