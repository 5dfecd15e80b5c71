from __future__ import annotations

import torch

from tests.models import tiniest
from vivavoz.engine.model import Model


def test_random_weights_follow_their_seed_and_leave_the_global_one_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (Model.initialised(tiniest(), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    name = "generator.latent_in.weight"
    assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))
    assert not first.training
