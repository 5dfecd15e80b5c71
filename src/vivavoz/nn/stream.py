"""Explicit stream state. A module owns weights, a state object owns the stream.

A state is a dataclass whose fields are tensors with the batch as their first axis, other states, tuples of states, or plain
`int` / `bool` phases (how far the stream is; never read from a tensor, so nothing waits for the device).
Steps write tensors in place (`copy_`), they never rebind a field: a step can be compiled, and captured as a CUDA graph.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Self, TypeVar

import torch
from torch import Tensor


@dataclass(slots=True, kw_only=True)
class StreamState:
    """Base of every stream state; gives snapshot, restore, reset and row copies to all of them alike."""

    def children(self) -> Iterator[StreamState]:
        """The states nested directly in this one, in field order."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, StreamState):
                yield value
            elif isinstance(value, tuple):
                yield from (item for item in value if isinstance(item, StreamState))

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor of this state and of the states in it, in a fixed order."""
        yield from self._own_tensors()
        for child in self.children():
            yield from child.tensors()

    def _own_tensors(self) -> Iterator[Tensor]:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                yield value

    def _phases(self) -> list[str]:
        return [field.name for field in fields(self) if isinstance(getattr(self, field.name), int)]

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors in bytes; constant over the life of a stream."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def snapshot(self) -> Self:
        """An independent copy, to `restore_` from later."""
        return copy.deepcopy(self)

    def restore_(self, other: Self) -> None:
        """Take over `other`'s content, bit for bit, in place. Shapes must agree."""
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(theirs)
        self._copy_phases(other)

    def copy_row_(self, row: int, other: Self, other_row: int = 0) -> None:
        """Replace one row of the batch by a row of `other`, in place. Phases must agree: rows of a batch move in step."""
        for mine, theirs in zip(self._own_tensors(), other._own_tensors(), strict=True):
            mine[row].copy_(theirs[other_row])
        for my_child, their_child in zip(self.children(), other.children(), strict=True):
            my_child.copy_row_(row, their_child, other_row)

    def reset_(self) -> None:
        """Back to the start of a stream, in place: all tensors zero, all phases at their defaults."""
        for tensor in self.tensors():
            tensor.zero_()
        self._reset_phases()

    def _copy_phases(self, other: StreamState) -> None:
        for name in self._phases():
            setattr(self, name, getattr(other, name))
        for mine, theirs in zip(self.children(), other.children(), strict=True):
            mine._copy_phases(theirs)

    def _reset_phases(self) -> None:
        for field in fields(self):
            if isinstance(getattr(self, field.name), int):
                assert field.default is not MISSING, f"phase {field.name} needs a default, its value at the start of a stream"
                setattr(self, field.name, field.default)
        for child in self.children():
            child._reset_phases()


State = TypeVar("State", bound=StreamState)


def join(states: Sequence[State]) -> State:
    """One state with the rows of all `states`, one after the other: a copy, or, of one alone, itself. Phases must agree."""
    return states[0] if len(states) == 1 else _joined(states)


def part_(batch: StreamState, states: Sequence[StreamState]) -> None:
    """Give the rows of `join(states)` back to `states`, in place, with the phases."""
    if batch is states[0]:
        return
    for tensor, *parts in zip(batch.tensors(), *(state.tensors() for state in states), strict=True):
        for mine, row in zip(parts, tensor.chunk(len(states)), strict=True):
            mine.copy_(row)
    for state in states:
        state._copy_phases(batch)


def _joined(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, tuple):
        return tuple(_joined(items) for items in zip(*parts, strict=True))
    if isinstance(first, StreamState):
        names = [field.name for field in fields(first)]
        return type(first)(**{name: _joined([getattr(part, name) for part in parts]) for name in names})
    if any(part != first for part in parts):
        raise ValueError(f"states in the phases {parts} cannot be joined: they do not move in step")
    return first
