import math

import pytest
import torch
from torch import Tensor

from vivavoz.nn.attention import Past, SelfAttention
from vivavoz.nn.rope import Rotation, grid_positions, rotate, rotation_at


@pytest.fixture
def attention() -> SelfAttention:
    torch.manual_seed(0)
    module = SelfAttention(12, num_heads=2, head_dim=6)
    torch.nn.init.normal_(module.query_norm.weight, 1.0, 0.3)
    torch.nn.init.normal_(module.key_norm.weight, 1.0, 0.3)
    return module.requires_grad_(False)


def make_tokens(batch: int = 2) -> tuple[Tensor, Rotation]:
    x = torch.randn(batch, 8, 12, generator=torch.Generator().manual_seed(1))
    return x, rotation_at(grid_positions(torch.tensor([[0.0, 1.0]]), 2, 2), 6)


def slow_attention(module: SelfAttention, x: Tensor, rotation: Rotation, mask: Tensor) -> Tensor:
    """Token by token and head by head."""
    rows = []
    for row in range(x.shape[0]):
        projected = (x[row] @ module.qkv.weight.T + module.qkv.bias).reshape(-1, 3, 2, 6)
        heads = []
        for head in range(2):
            q, k, v = projected[:, :, head].unbind(1)
            q = q / (q.square().mean(-1, keepdim=True) + 1e-6).sqrt() * module.query_norm.weight
            k = k / (k.square().mean(-1, keepdim=True) + 1e-6).sqrt() * module.key_norm.weight
            q, k = rotate(q[None, None], rotation)[0, 0], rotate(k[None, None], rotation)[0, 0]
            scores = (q @ k.T / math.sqrt(6)).masked_fill(~mask[row], -math.inf)
            heads.append(scores.softmax(-1) @ v)
        rows.append(torch.cat(heads, -1) @ module.out.weight.T + module.out.bias)
    return torch.stack(rows)


def test_equals_slow_attention_under_a_mask(attention):
    x, rotation = make_tokens()
    mask = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(2)) < 0.5
    mask |= torch.eye(8, dtype=torch.bool)
    got, keys, values = attention(x, rotation, mask=mask[:, None])
    torch.testing.assert_close(got, slow_attention(attention, x, rotation, mask), rtol=1e-5, atol=1e-5)
    assert keys.shape == values.shape == (2, 2, 8, 6)


def test_cached_past_equals_one_pass(attention):
    x, rotation = make_tokens(batch=3)
    causal = torch.tensor([0] * 4 + [1] * 4)
    mask = (causal[:, None] >= causal[None]).expand(3, 8, 8)
    expected = slow_attention(attention, x, rotation, mask)[:, 4:]
    early, late = (Rotation(*(angle[:, :, part] for angle in rotation)) for part in (slice(0, 4), slice(4, 8)))
    _, keys, values = attention(x[:, :4], early)
    seen = torch.ones(3, 1, 1, 8, dtype=torch.bool)
    whole = Past(keys, values, seen)
    split = [Past(keys[:1], values[:1], seen[:1]), Past(keys[1:], values[1:], seen[1:])]
    for pasts in ([whole], split):
        torch.testing.assert_close(attention(x[:, 4:], late, pasts=pasts)[0], expected, rtol=1e-5, atol=1e-5)


def test_masked_slots_of_the_past_do_not_matter(attention):
    x, rotation = make_tokens()
    keys, values = torch.randn(2, 2, 2, 5, 6, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(2, 1, 1, 13, dtype=torch.bool)
    mask[..., 3:5] = False
    got = attention(x, rotation, pasts=[Past(keys, values, mask)])[0]
    keys[:, :, 3:5] = values[:, :, 3:5] = 100
    torch.testing.assert_close(attention(x, rotation, pasts=[Past(keys, values, mask)])[0], got, rtol=0, atol=0)
    shorter = Past(keys[:, :, :3], values[:, :, :3], mask[..., 2:].logical_or(torch.tensor(True)))
    torch.testing.assert_close(attention(x, rotation, pasts=[shorter])[0], got, rtol=1e-5, atol=1e-5)
