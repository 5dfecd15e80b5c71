from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from vivavoz.nn.tables import remembered


@remembered
def squares(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device, dtype=torch.float32) ** 2


CPU = torch.device("cpu")


def test_a_table_is_made_once_for_every_size_and_place() -> None:
    assert squares(5, CPU) is squares(5, CPU)
    assert squares(6, CPU).shape == (6,)
    assert squares(5, torch.device("meta")).is_meta


def test_a_table_made_in_inference_serves_training() -> None:
    with torch.inference_mode():
        squares(7, CPU)
    weight = torch.ones(7, requires_grad=True)
    (weight * squares(7, CPU)).sum().backward()
    assert torch.equal(weight.grad, torch.arange(7.0) ** 2)


def test_fake_tensors_do_not_outlive_their_mode() -> None:
    squares(8, CPU)
    with FakeTensorMode():
        assert isinstance(squares(8, CPU), FakeTensor)
        assert isinstance(squares(9, CPU), FakeTensor)
    assert not isinstance(squares(9, CPU), FakeTensor)


def test_a_compiler_sees_through_it() -> None:
    compiled = torch.compile(lambda x: x + squares(4, x.device), fullgraph=True, backend="eager")
    assert torch.equal(compiled(torch.zeros(4)), torch.tensor([0.0, 1.0, 4.0, 9.0]))
