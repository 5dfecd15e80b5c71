"""Nested dataclasses and tuples as flat lists of tensors, and back: what exporters and recorders of steps want."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from torch import Tensor

Tree = TypeVar("Tree")


def tensors_of(tree: object) -> list[Tensor]:
    """Every tensor of nested dataclasses and tuples, in a fixed order."""
    return list(_walk(tree))


def with_tensors(tree: Tree, tensors: Iterable[Tensor]) -> Tree:
    """The same, on other tensors (as many as `tensors_of` gives); what is no tensor stays."""
    rest = iter(tensors)
    made: Tree = _rebuilt(tree, rest)
    assert next(rest, None) is None, "more tensors than the tree has places"
    return made


def _walk(tree: object) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    else:
        for child in _children(tree) or ():
            yield from _walk(child)


def _rebuilt(tree: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(tree, Tensor):
        return next(tensors)
    children = _children(tree)
    if children is None:
        return tree
    made = [_rebuilt(child, tensors) for child in children]
    kind: Any = type(tree)
    if is_dataclass(tree):
        return kind(**dict(zip((field.name for field in fields(tree)), made, strict=True)))
    return kind(*made) if hasattr(tree, "_fields") else kind(made)


def _children(tree: Any) -> list[Any] | None:
    """What is nested directly in a dataclass or a tuple; None for anything else."""
    if is_dataclass(tree) and not isinstance(tree, type):
        return [getattr(tree, field.name) for field in fields(tree)]
    return list(tree) if isinstance(tree, tuple) else None
