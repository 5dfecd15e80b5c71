import math

import pytest
import torch

from vivavoz.nn.rope import axis_planes, grid_positions, rotate, rotation_at, rotation_within


@pytest.mark.parametrize(("head_dim", "planes"), [(128, (22, 21, 21)), (64, (12, 10, 10)), (16, (4, 2, 2)), (6, (1, 1, 1))])
def test_planes_of_the_axes(head_dim, planes):
    assert axis_planes(head_dim) == planes
    assert 2 * sum(planes) == head_dim


def test_grid_runs_over_time_then_rows_then_columns():
    positions = grid_positions(torch.tensor([[-1, 4]]), 2, 3)
    expected = [[t, row, column] for t in (-1, 4) for row in range(2) for column in range(3)]
    assert positions[0].tolist() == expected


def test_rotation_by_hand():
    x = torch.randn(1, 1, 1, 6, generator=torch.Generator().manual_seed(0))
    rotation = rotation_at(torch.tensor([[[2.0, 3.0, 5.0]]]), 6)
    turned = rotate(x, rotation)[0, 0, 0]
    # Head of six channels: one plane each for time, row, column, all of frequency one; plane i is channels (i, i + 3).
    for plane, angle in enumerate((2.0, 3.0, 5.0)):
        a, b = x[0, 0, 0, plane].item(), x[0, 0, 0, plane + 3].item()
        assert math.isclose(turned[plane].item(), a * math.cos(angle) - b * math.sin(angle), abs_tol=1e-6)
        assert math.isclose(turned[plane + 3].item(), b * math.cos(angle) + a * math.sin(angle), abs_tol=1e-6)


def test_scores_depend_on_relative_positions_only():
    rng = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(1, 2, 12, 64, generator=rng), torch.randn(1, 2, 12, 64, generator=rng)
    positions = grid_positions(torch.tensor([[0.0, 1.0]]), 2, 3)

    def scores(offset: torch.Tensor) -> torch.Tensor:
        rotation = rotation_at(positions + offset, 64)
        return rotate(queries, rotation) @ rotate(keys, rotation).mT

    at_origin = scores(torch.zeros(3))
    torch.testing.assert_close(scores(torch.tensor([7.0, 3.0, 5.0])), at_origin, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(at_origin.diagonal(0, 2, 3), (queries * keys).sum(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axis", range(3))
def test_every_axis_is_seen(axis):
    x = torch.ones(1, 1, 1, 16)
    position = torch.zeros(1, 1, 3)
    position[..., axis] = 1
    assert not torch.allclose(rotate(x, rotation_at(position, 16)), x, atol=1e-2)


def test_keeps_type_and_length():
    x = torch.randn(2, 1, 6, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    turned = rotate(x, rotation_at(grid_positions(torch.tensor([[3.0], [9.0]]), 2, 3), 16))
    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned.float().norm(dim=-1), x.float().norm(dim=-1), rtol=1e-2, atol=1e-2)


def test_the_table_is_equal_to_the_bit():
    times = torch.tensor([[0, 1, 2, 3], [12, 13, 14, 15]])
    table, direct = rotation_within(times, 16, (3, 5), 64), rotation_at(grid_positions(times, 3, 5), 64)
    assert torch.equal(table.cos, direct.cos)
    assert torch.equal(table.sin, direct.sin)
