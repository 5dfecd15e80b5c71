from __future__ import annotations

import torch

from tests.models import tiny_avatar
from vivavoz.engine.trees import tensors_of, with_tensors


def test_a_stream_and_its_references_survive_being_flattened() -> None:
    avatar = tiny_avatar()
    state = avatar.stream().state.generator
    for tree in (state, avatar.references, avatar.model.generator.modulations(torch.tensor([0.5, 0.0]))):
        tensors = tensors_of(tree)
        assert len(tensors) >= 3
        again = with_tensors(tree, [tensor + 1 for tensor in tensors])
        assert type(again) is type(tree)
        for before, after in zip(tensors, tensors_of(again), strict=True):
            assert torch.equal(after, before + 1)
    assert {id(tensor) for tensor in tensors_of(state)} == {id(tensor) for tensor in state.tensors()}
    assert with_tensors(state, tensors_of(state)).cache_read is state.cache_read
