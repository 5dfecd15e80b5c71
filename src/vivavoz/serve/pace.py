"""How fast blocks were made lately: what to expect of the next. Two threads may use it."""

from __future__ import annotations

from collections import deque

_FIRST_GUESS_S = 0.12
"""A usual block, before any has been made."""
_REMEMBERED_WAITS, _REMEMBERED_MAKINGS = 40, 8
"""Blocks that are looked back on: what kept one waiting, such as another program, comes again within seconds."""
_FIXED = 0.25
"""Share of a block's time that does not grow with it."""
_FIRST_SHARE = 0.6
"""Of a block's time, until its first picture is there, before any has been made."""


class Pace:
    """Times of a session's blocks, by their size in latents."""

    def __init__(self, block_latents: int) -> None:
        self._waits_s: dict[int, deque[float]] = {block_latents: deque([_FIRST_GUESS_S], maxlen=_REMEMBERED_WAITS)}
        self._makings_s: dict[int, deque[float]] = {block_latents: deque([_FIRST_GUESS_S], maxlen=_REMEMBERED_MAKINGS)}
        self._firsts_s: dict[int, deque[float]] = {
            block_latents: deque([_FIRST_SHARE * _FIRST_GUESS_S], maxlen=_REMEMBERED_MAKINGS)
        }

    def was(self, block_latents: int, *, wait_s: float, making_s: float, first_s: float) -> None:
        """A block was made, in `making_s`, its first picture in `first_s`; `wait_s` after it was wanted."""
        self._waits_s.setdefault(block_latents, deque(maxlen=_REMEMBERED_WAITS)).append(wait_s)
        self._makings_s.setdefault(block_latents, deque(maxlen=_REMEMBERED_MAKINGS)).append(making_s)
        self._firsts_s.setdefault(block_latents, deque(maxlen=_REMEMBERED_MAKINGS)).append(first_s)

    def wait_s(self, block_latents: int) -> float:
        """The longest of the last forty waits for such a block."""
        return max(_expected(self._waits_s, block_latents))

    def making_s(self, block_latents: int) -> float:
        """What it takes to make such a block: the mean of the last three."""
        newest = _expected(self._makings_s, block_latents)[-3:]
        return sum(newest) / len(newest)

    def quickest_s(self, block_latents: int) -> float:
        """When such a block's first picture is there if all goes well: the shortest of the last eight."""
        return min(_expected(self._firsts_s, block_latents, fixed=1.0))


def _expected(times_s: dict[int, deque[float]], block_latents: int, fixed: float = _FIXED) -> list[float]:
    """Times of such blocks; if there were none, what those of another size let expect: a `fixed` share does not grow with it."""
    if block_latents in times_s:
        return list(times_s[block_latents])
    known = min(list(times_s), key=lambda size: abs(size - block_latents))
    ratio = block_latents / known
    return [time_s * (fixed + (1 - fixed) * ratio) for time_s in times_s[known]]
