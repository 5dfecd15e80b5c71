from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from vivavoz.nn.stream import StreamState, join, part_


@dataclass(slots=True, kw_only=True)
class Leaf(StreamState):
    tail: Tensor
    num_seen: int = 0
    is_start: bool = True


@dataclass(slots=True, kw_only=True)
class Tree(StreamState):
    own: Tensor
    left: Leaf
    leaves: tuple[Leaf, ...]
    absent: Leaf | None = None


def tree(fill: float = 0.0, phase: int = 0) -> Tree:
    def leaf(value: float) -> Leaf:
        return Leaf(tail=torch.full((3, 2), value), num_seen=phase, is_start=phase == 0)

    return Tree(own=torch.full((3, 1), fill), left=leaf(fill + 1), leaves=(leaf(fill + 2), leaf(fill + 3)))


def values(state: Tree) -> list[list]:
    return [tensor.tolist() for tensor in state.tensors()]


def test_tensors_are_listed_in_a_fixed_order() -> None:
    assert [tensor[0, 0].item() for tensor in tree(10).tensors()] == [10, 11, 12, 13]
    assert tree().num_bytes == 4 * (3 + 3 * 6)


def test_a_snapshot_is_independent_and_restores_in_place() -> None:
    state = tree(1, phase=5)
    expected, places = values(state), [tensor.data_ptr() for tensor in state.tensors()]
    snapshot = state.snapshot()
    for tensor in state.tensors():
        tensor.add_(1)
    state.left.num_seen, state.leaves[1].is_start = 9, True
    assert values(snapshot) == expected
    state.restore_(snapshot)
    assert values(state) == expected
    assert (state.left.num_seen, state.leaves[1].is_start) == (5, False)
    assert [tensor.data_ptr() for tensor in state.tensors()] == places


def test_reset_goes_back_to_zeros_and_default_phases() -> None:
    state = tree(1, phase=5)
    state.reset_()
    assert all(not tensor.any() for tensor in state.tensors())
    assert [(leaf.num_seen, leaf.is_start) for leaf in (state.left, *state.leaves)] == [(0, True)] * 3


def test_copying_a_row_leaves_the_others() -> None:
    state, other = tree(0), tree(100)
    state.copy_row_(2, other, 0)
    for mine, before, theirs in zip(state.tensors(), tree(0).tensors(), other.tensors(), strict=True):
        assert torch.equal(mine[:2], before[:2])
        assert torch.equal(mine[2], theirs[0])


def test_states_of_another_shape_are_refused() -> None:
    longer = tree()
    longer.leaves = (*longer.leaves, Leaf(tail=torch.zeros(3, 2)))
    with pytest.raises(ValueError, match="zip"):
        tree().restore_(longer)


def test_joined_rows_move_together_and_go_back() -> None:
    states = [tree(0), tree(100)]
    places = [tensor.data_ptr() for state in states for tensor in state.tensors()]
    batch = join(states)
    assert [tensor[:, 0].tolist() for tensor in batch.tensors()] == [[i] * 3 + [100 + i] * 3 for i in range(4)]
    for tensor in batch.tensors():
        tensor.add_(1)
    assert values(states[0]) == values(tree(0))
    batch.left.num_seen = 7
    part_(batch, states)
    assert [values(state) for state in states] == [values(tree(1)), values(tree(101))]
    assert [state.left.num_seen for state in states] == [7, 7]
    assert [tensor.data_ptr() for state in states for tensor in state.tensors()] == places


def test_one_state_joined_is_itself() -> None:
    state = tree()
    assert join([state]) is state
    part_(state, [state])
    assert values(state) == values(tree())


def test_states_in_other_phases_are_not_joined() -> None:
    with pytest.raises(ValueError, match="do not move in step"):
        join([tree(phase=0), tree(phase=1)])
