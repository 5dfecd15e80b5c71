import pytest
import torch

from tests.streaming import check_streaming
from vivavoz.nn.conv import CausalConv3d, CausalResBlock

HEIGHT, WIDTH = 3, 4


def clip(channels: int, frames: int = 13, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, frames, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("temporal_kernel", "spatial_kernel"), [(1, 1), (1, 3), (2, 3), (3, 3), (3, 1)])
def test_convolution_is_the_sum_it_claims_to_be(temporal_kernel: int, spatial_kernel: int) -> None:
    torch.manual_seed(0)
    conv = CausalConv3d(3, 2, temporal_kernel=temporal_kernel, spatial_kernel=spatial_kernel).double()
    x = clip(3, frames=4, batch=1).double()
    pad = spatial_kernel // 2
    expected = torch.zeros(1, 2, 4, HEIGHT, WIDTH, dtype=torch.float64)
    for out in range(2):
        for t in range(4):
            for row in range(HEIGHT):
                for column in range(WIDTH):
                    total = conv.bias[out].item()
                    for c in range(3):
                        for i in range(temporal_kernel):
                            for j in range(spatial_kernel):
                                for k in range(spatial_kernel):
                                    at = (t - temporal_kernel + 1 + i, row + j - pad, column + k - pad)
                                    if at[0] >= 0 and 0 <= at[1] < HEIGHT and 0 <= at[2] < WIDTH:
                                        total += conv.weight[out, c, i, j, k].item() * x[0, c, *at].item()
                    expected[0, out, t, row, column] = total
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("temporal_kernel", [1, 2, 3, 5])
def test_convolution_streams(temporal_kernel: int) -> None:
    torch.manual_seed(0)
    conv = CausalConv3d(3, 2, temporal_kernel=temporal_kernel)
    check_streaming(conv, lambda: conv.init_state(2, HEIGHT, WIDTH), clip(3))


@pytest.mark.parametrize("temporal_kernel", [1, 3])
def test_residual_block_streams(temporal_kernel: int) -> None:
    torch.manual_seed(0)
    block = CausalResBlock(4, temporal_kernel=temporal_kernel)
    check_streaming(block, lambda: block.init_state(2, HEIGHT, WIDTH), clip(4))


def test_state_holds_the_frames_the_kernel_reaches_back() -> None:
    assert CausalConv3d(3, 2, temporal_kernel=3).init_state(2, 5, 7).num_bytes == 4 * 2 * 3 * 2 * 5 * 7
    assert CausalConv3d(3, 2, temporal_kernel=1).init_state(2, 5, 7).num_bytes == 0


@torch.no_grad()
def test_the_future_never_changes_the_past() -> None:
    torch.manual_seed(0)
    block, x = CausalResBlock(4), clip(4)
    y = block(x)
    x[:, :, 6] += 1
    changed = (block(x) != y).flatten(3).any(dim=3).any(dim=1).any(dim=0)
    assert changed.nonzero().flatten().tolist() == [6, 7, 8, 9, 10]  # two kernels of 3 reach four frames on


@torch.no_grad()
def test_residual_is_the_identity() -> None:
    torch.manual_seed(0)
    block, x = CausalResBlock(4), clip(4)
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    assert torch.equal(block(x), x)


@torch.no_grad()
def test_rows_are_independent() -> None:
    torch.manual_seed(0)
    block, x = CausalResBlock(4), clip(4)
    state, alone = block.init_state(2, HEIGHT, WIDTH), block.init_state(1, HEIGHT, WIDTH)
    block(x[:, :, :5], state)
    block(x[1:, :, :5], alone)
    state.copy_row_(0, alone)  # row 0 now continues row 1's stream
    y = block(torch.cat([x[1:, :, 5:], x[:1, :, 5:]]), state)
    torch.testing.assert_close(y[:1], block(x[1:, :, 5:], alone), rtol=0, atol=1e-6)
