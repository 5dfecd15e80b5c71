import torch

from vivavoz.nn.norm import ChannelRMSNorm


def test_every_position_is_divided_by_its_own_root_mean_square() -> None:
    torch.manual_seed(0)
    norm = ChannelRMSNorm(5)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
    x = torch.randn(2, 5, 3, 2, 4, dtype=torch.float64)
    expected = torch.empty_like(x)
    for b in range(2):
        for t in range(3):
            for row in range(2):
                for column in range(4):
                    v = x[b, :, t, row, column]
                    expected[b, :, t, row, column] = v / (v.pow(2).sum() / 5 + 1e-6).sqrt() * norm.weight.double()
    torch.testing.assert_close(norm.double()(x), expected)


def test_positions_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    norm, x = ChannelRMSNorm(4), torch.randn(1, 4, 3, 2, 2)
    y = norm(x)
    x[:, :, 1, 0, 0] = 100.0
    changed = (norm(x) != y).any(dim=1)[0]
    assert changed.nonzero().tolist() == [[1, 0, 0]]


def test_silence_stays_finite() -> None:
    assert torch.equal(ChannelRMSNorm(4)(torch.zeros(1, 4, 1, 1, 1)), torch.zeros(1, 4, 1, 1, 1))


def test_its_gradient_is_that_of_the_plain_formula() -> None:
    torch.manual_seed(0)
    norm, x = ChannelRMSNorm(5).double(), torch.randn(2, 5, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
    gradient = torch.randn(x.shape, dtype=torch.float64)
    given = torch.autograd.grad(norm(x), (x, norm.weight), gradient)
    plain = x / (x.square().mean(dim=1, keepdim=True) + 1e-6).sqrt() * norm.weight[:, None, None, None]
    for mine, expected in zip(given, torch.autograd.grad(plain, (x, norm.weight), gradient), strict=True):
        torch.testing.assert_close(mine, expected)
    assert torch.autograd.gradcheck(norm, (x,))


def test_autocast_keeps_its_narrow_type():
    norm = ChannelRMSNorm(8)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0)
    x = torch.randn(2, 8, 3, 4, 4).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    expected = norm(x.detach().float())
    torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=0.02)
    y.float().square().sum().backward()
    assert norm.weight.grad.dtype == torch.float32
    narrow = norm.weight.grad.clone()
    norm.weight.grad = None
    expected.square().sum().backward()
    torch.testing.assert_close(narrow, norm.weight.grad, rtol=0.02, atol=0.1)


def test_exported_it_is_the_same() -> None:
    norm, x = ChannelRMSNorm(4).requires_grad_(False), torch.randn(1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    norm.weight.copy_(torch.tensor([0.5, 1, 2, 3]))
    torch.testing.assert_close(torch.jit.trace(norm, x)(x), norm(x))
