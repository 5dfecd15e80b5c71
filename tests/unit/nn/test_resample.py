"""CR-VA against a reading of the paper's figure III that knows nothing but loops over single numbers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.streaming import check_streaming, chunkings
from vivavoz.nn.conv import CausalConv3d
from vivavoz.nn.resample import (
    CausalDownsample,
    CausalUpsample,
    average_channels,
    fold_space,
    fold_time,
    split_first,
    unfold_space,
    unfold_time,
)

Clip = NDArray[np.float64]
"""C T H W, no batch."""

FACTORS = [(1, 2), (2, 2), (1, 1), (2, 1), (3, 2)]
"""(k_t, k_s)."""


def pixel_unshuffle(x: Clip, k_t: int, k_s: int) -> Clip:
    """Channel c at place (i, j, k) of a cell of k_t x k_s x k_s moves to channel ((c * k_t + i) * k_s + j) * k_s + k."""
    channels, frames, height, width = x.shape
    y = np.full((channels * k_t * k_s * k_s, frames // k_t, height // k_s, width // k_s), np.nan)
    for c, t, row, column in product(*map(range, x.shape)):
        i, j, k = t % k_t, row % k_s, column % k_s
        y[((c * k_t + i) * k_s + j) * k_s + k, t // k_t, row // k_s, column // k_s] = x[c, t, row, column]
    return y


def pixel_shuffle(x: Clip, k_t: int, k_s: int) -> Clip:
    channels, frames, height, width = x.shape
    y = np.full((channels // (k_t * k_s * k_s), frames * k_t, height * k_s, width * k_s), np.nan)
    for c, t, row, column in product(*map(range, y.shape)):
        i, j, k = t % k_t, row % k_s, column % k_s
        y[c, t, row, column] = x[((c * k_t + i) * k_s + j) * k_s + k, t // k_t, row // k_s, column // k_s]
    return y


def mean_of_groups(x: Clip, num_groups: int) -> Clip:
    """Channels 0, 1, .. of the result are the means of the first, the second, .. run of neighbouring channels."""
    size = x.shape[0] // num_groups
    y = np.zeros((num_groups, *x.shape[1:]))
    for c in range(x.shape[0]):
        y[c // size] += x[c] / size
    return y


def repeat_each(x: Clip, times: int) -> Clip:
    return np.stack([x[c // times] for c in range(x.shape[0] * times)])


def first_apart(x: Clip, temporal: Callable[[Clip], Clip]) -> Clip:
    return np.concatenate([x[:, :1], temporal(x[:, 1:])], axis=1)


def convolve(conv: CausalConv3d, x: Clip) -> Clip:
    """The layer itself (tested in test_conv.py), on one clip."""
    with torch.no_grad():
        return conv(torch.from_numpy(x)[None])[0].numpy()


def down_by_hand(block: CausalDownsample, x: Clip, k_t: int, k_s: int, c_out: int, *, residual: bool) -> Clip:
    y = x
    if k_t > 1:
        y = first_apart(y, lambda v: pixel_unshuffle(convolve(block.conv_t, v), k_t, 1))
    y = pixel_unshuffle(convolve(block.conv_s, y), 1, k_s)
    h = first_apart(x, lambda v: mean_of_groups(pixel_unshuffle(v, k_t, 1), x.shape[0]))
    h = mean_of_groups(pixel_unshuffle(h, 1, k_s), c_out)
    return y + h if residual else y


def up_by_hand(block: CausalUpsample, x: Clip, k_t: int, k_s: int, c_out: int, *, residual: bool) -> Clip:
    y = pixel_shuffle(convolve(block.conv_s, x), 1, k_s)
    if k_t > 1:
        y = first_apart(y, lambda v: pixel_shuffle(convolve(block.conv_t, v), k_t, 1))
    h = pixel_shuffle(repeat_each(x, c_out * k_s**2 // x.shape[0]), 1, k_s)
    h = first_apart(h, lambda v: pixel_shuffle(repeat_each(v, k_t), k_t, 1))
    return y + h if residual else y


def clip(channels: int, frames: int, side: int = 4) -> torch.Tensor:
    return torch.randn(1, channels, frames, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("k_t", "k_s"), FACTORS)
@pytest.mark.parametrize("c_out", [4, 12, 24])
def test_down_is_figure_iii(k_t: int, k_s: int, c_out: int, residual: bool) -> None:
    torch.manual_seed(0)
    c_in = 24
    block = CausalDownsample(c_in, c_out, temporal=k_t, spatial=k_s, residual=residual).double()
    x = clip(c_in, 1 + 2 * k_t)
    y = block(x)
    assert y.shape == (1, c_out, 3, 4 // k_s, 4 // k_s)
    np.testing.assert_allclose(
        y[0].detach().numpy(), down_by_hand(block, x[0].numpy(), k_t, k_s, c_out, residual=residual), atol=1e-12
    )


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("k_t", "k_s"), FACTORS)
@pytest.mark.parametrize("c_in", [4, 8])
def test_up_is_figure_iii(k_t: int, k_s: int, c_in: int, residual: bool) -> None:
    torch.manual_seed(0)
    c_out = 8
    block = CausalUpsample(c_in, c_out, temporal=k_t, spatial=k_s, residual=residual).double()
    x = clip(c_in, 3, side=3)
    y = block(x)
    assert y.shape == (1, c_out, 1 + 2 * k_t, 3 * k_s, 3 * k_s)
    np.testing.assert_allclose(
        y[0].detach().numpy(), up_by_hand(block, x[0].numpy(), k_t, k_s, c_out, residual=residual), atol=1e-12
    )


@pytest.mark.parametrize("k", [1, 2, 3])
def test_folding_keeps_the_order_of_channels(k: int) -> None:
    x = torch.arange(2 * 6 * 6 * 6, dtype=torch.float64).reshape(1, 2, 6, 6, 6)
    in_time, in_space = fold_time(x, k), fold_space(x, k)
    np.testing.assert_array_equal(in_time[0], pixel_unshuffle(x[0].numpy(), k, 1))
    np.testing.assert_array_equal(in_space[0], pixel_unshuffle(x[0].numpy(), 1, k))
    assert torch.equal(unfold_time(in_time, k), x)
    assert torch.equal(unfold_space(in_space, k), x)
    np.testing.assert_array_equal(in_space[0, :, 0], torch.nn.functional.pixel_unshuffle(x[0, :, 0], k))


def test_averaging_takes_neighbours() -> None:
    x = torch.tensor([1.0, 3.0, 10.0, 20.0]).reshape(1, 4, 1, 1, 1)
    assert average_channels(x, 2).flatten().tolist() == [2.0, 15.0]


@pytest.mark.parametrize("k_t", [1, 2])
@torch.no_grad()
def test_shortcut_alone_brings_a_constant_through_unchanged(k_t: int) -> None:
    """Averaging down and duplicating up have no gain; the main branch is silenced."""
    down, up = CausalDownsample(8, 16, temporal=k_t), CausalUpsample(16, 8, temporal=k_t)
    for parameter in (*down.parameters(), *up.parameters()):
        parameter.zero_()
    x = torch.full((1, 8, 1 + 2 * k_t, 4, 4), 0.5)
    torch.testing.assert_close(up(down(x)), x)


@torch.no_grad()
def test_the_first_frame_depends_on_itself_alone() -> None:
    torch.manual_seed(0)
    down, up = CausalDownsample(4, 8, temporal=2), CausalUpsample(8, 4, temporal=2)
    x = torch.randn(1, 4, 5, 4, 4)
    assert torch.allclose(down(x)[:, :, :1], down(x[:, :, :1]), atol=1e-6)
    y = down(x)
    assert torch.allclose(up(y)[:, :, :1], up(y[:, :, :1]), atol=1e-6)


def test_only_a_streams_start_is_split() -> None:
    x = torch.arange(1.0, 6.0).reshape(1, 1, 5, 1, 1)
    assert split_first(x, lambda v: -v, is_start=True).flatten().tolist() == [1, -2, -3, -4, -5]
    assert split_first(x, lambda v: -v, is_start=False).flatten().tolist() == [-1, -2, -3, -4, -5]
    assert split_first(x[:, :, :1], lambda v: -v, is_start=True).flatten().tolist() == [1]


@pytest.mark.parametrize("k_t", [1, 2])
@pytest.mark.parametrize("temporal_kernel", [1, 3])
def test_down_streams(k_t: int, temporal_kernel: int) -> None:
    torch.manual_seed(0)
    block = CausalDownsample(4, 8, temporal=k_t, temporal_kernel=temporal_kernel)
    x = torch.randn(2, 4, 1 + 12 * k_t, 4, 6)
    plans = chunkings(x.shape[2], unit=k_t, first=1)
    assert len(plans) >= 6
    check_streaming(block, lambda: block.init_state(2, 4, 6), x, plans)


@pytest.mark.parametrize("k_t", [1, 2])
@pytest.mark.parametrize("temporal_kernel", [1, 3])
def test_up_streams(k_t: int, temporal_kernel: int) -> None:
    torch.manual_seed(0)
    block = CausalUpsample(8, 4, temporal=k_t, temporal_kernel=temporal_kernel)
    x = torch.randn(2, 8, 13, 2, 3)
    check_streaming(block, lambda: block.init_state(2, 2, 3), x, chunkings(13))


def test_without_time_unfolding_once_is_unfolding_both_branches() -> None:
    torch.manual_seed(0)
    block = CausalUpsample(8, 4, temporal=1).to(memory_format=torch.channels_last_3d)
    x = torch.randn(2, 8, 3, 2, 5).contiguous(memory_format=torch.channels_last_3d)
    both = block._main(x, None, is_start=True) + block._shortcut(x, is_start=True)
    assert torch.equal(block(x), both)


def test_residual_switch_removes_no_parameter() -> None:
    shapes = [
        {name: tuple(p.shape) for name, p in CausalDownsample(8, 8, temporal=2, residual=residual).named_parameters()}
        for residual in (True, False)
    ]
    assert shapes[0] == shapes[1]
    assert shapes[0]["conv_t.weight"] == (4, 8, 1, 3, 3)
    assert shapes[0]["conv_s.weight"] == (2, 8, 3, 3, 3)
