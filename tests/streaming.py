"""What every streaming layer promises, checked in one place."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, chain, repeat, takewhile

import torch
from torch import Tensor

from vivavoz.nn.stream import StreamState

MAX_DIFFERENCE = 1e-5
"""Largest difference between a stream and the whole clip, float32 (docs/adr/0003-tolerances.md)."""

Chunking = tuple[int, ...]


def chunkings(length: int, *, unit: int = 1, first: int = 0) -> list[Chunking]:
    """Seven ways to cut `length` steps: whole, one at a time, primes, halves, a lone first, growing, at random.

    Chunks are multiples of `unit`, and the first one has `first` steps more: a layer that halves time takes `unit=2, first=1`.
    """
    units, rest = divmod(length - first, unit)
    assert rest == 0, f"{length} steps are not {first} and a multiple of {unit}"
    rng = random.Random(0)
    plans: list[Sequence[int]] = [
        [units],
        [1] * units,
        _fill(units, (2, 3, 5, 7, 11)),
        _fill(units, (-(-units // 2),)),
        _fill(units, (1 - (first > 0), units)),
        _fill(units, range(1, units + 1)),
        _fill(units, (rng.randint(1, 3) for _ in range(units))),
    ]
    cut = [tuple(n * unit for n in plan) for plan in plans]
    return list(dict.fromkeys((plan[0] + first, *plan[1:]) for plan in cut))


def _fill(total: int, sizes: Iterable[int]) -> list[int]:
    """Sizes in turn, repeated, the last one cut so that they sum to `total`."""
    endless = chain.from_iterable(repeat(list(sizes)))
    ends = [*takewhile(lambda end: end < total, accumulate(endless)), total]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


@torch.no_grad()
def check_streaming(
    step: Callable[[Tensor, StreamState | None], Tensor],
    init_state: Callable[[], StreamState],
    x: Tensor,
    plans: Sequence[Chunking] | None = None,
    *,
    dim: int = 2,
    max_difference: float = MAX_DIFFERENCE,
) -> Tensor:
    """Assert what a streaming layer promises of the whole clip `x`, cut along `dim` by `plans`; return the offline result.

    `step(x, state)` is the layer, `step(x, None)` the whole clip offline. Any chunking equals the whole clip; a state's memory
    neither grows nor moves; snapshot / restore, in the middle of a stream, and reset are exact to the bit.
    """
    plans = chunkings(x.shape[dim]) if plans is None else plans
    expected = step(x, None)
    largest = expected.abs().max().item()  # random weights may leave the range of pictures, and rounding grows with it
    for plan in plans:
        assert sum(plan) == x.shape[dim]
        state = init_state()
        size, places = state.num_bytes, [tensor.data_ptr() for tensor in state.tensors()]
        streamed = torch.cat([step(chunk, state) for chunk in x.split(plan, dim)], dim)
        assert streamed.shape == expected.shape, f"{plan}: {tuple(streamed.shape)}, offline {tuple(expected.shape)}"
        difference = (streamed - expected).abs().max().item()
        assert difference <= max_difference * max(1.0, largest), f"{plan}: differs from the whole clip by {difference:.2g}"
        assert state.num_bytes == size, f"{plan}: the state went from {size} to {state.num_bytes} bytes"
        assert [tensor.data_ptr() for tensor in state.tensors()] == places, f"{plan}: a state tensor was rebound"
    _check_exactness(step, init_state, x.split(max(plans, key=len), dim))
    return expected


def _check_exactness(
    step: Callable[[Tensor, StreamState | None], Tensor], init_state: Callable[[], StreamState], chunks: Sequence[Tensor]
) -> None:
    state, middle = init_state(), len(chunks) // 2
    before = [step(chunk, state) for chunk in chunks[:middle]]
    snapshot = state.snapshot()
    after = [step(chunk, state) for chunk in chunks[middle:]]

    state.restore_(snapshot)
    assert all(torch.equal(step(chunk, state), y) for chunk, y in zip(chunks[middle:], after, strict=True)), "restored: differs"
    assert all(torch.equal(step(chunk, snapshot), y) for chunk, y in zip(chunks[middle:], after, strict=True)), "not independent"
    state.reset_()
    assert all(torch.equal(step(chunk, state), y) for chunk, y in zip(chunks, [*before, *after], strict=True)), "reset: differs"
