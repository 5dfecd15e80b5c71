from dataclasses import replace

import torch

from vivavoz.vae.config import tiny_vae_config
from vivavoz.vae.fusion import FusionMemory, ReferenceFusion, axial_rotation, rotate

CONFIG = replace(tiny_vae_config(), fusion_blocks=2)


def make() -> ReferenceFusion:
    torch.manual_seed(0)
    return ReferenceFusion(CONFIG).eval()


def features(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_one_block_is_attention_written_out() -> None:
    """Head by head and token by token, with softmax sums instead of the fused kernel."""
    block = make().blocks[0]
    x, references = features(2, 6, 16), features(2, 3, 6, 16, seed=2)
    rotation = axial_rotation(2, 3, 8, x.device)

    def heads(tokens: torch.Tensor) -> list[torch.Tensor]:
        return [tokens[:, head * 8 : head * 8 + 8] for head in range(2)]

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = torch.stack([torch.stack([(a * b).sum() / 8**0.5 for b in k]) for a in q])
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        return weights @ v

    expected = []
    for row in range(2):
        tokens = x[row]
        q, k, v = block.qkv(block.norm_self(tokens)).chunk(3, dim=-1)
        pairs = zip(heads(q), heads(k), heads(v), strict=True)
        tokens = tokens + block.out_self(
            torch.cat([attend(rotate(a, rotation), rotate(b, rotation), c) for a, b, c in pairs], dim=1)
        )
        k, v = block.kv(block.norm_reference(references[row].flatten(0, 1))).chunk(2, dim=-1)
        q = block.q(block.norm_cross(tokens))
        repeated = tuple(part.repeat(3, 1) for part in rotation)
        pairs = zip(heads(q), heads(k), heads(v), strict=True)
        tokens = tokens + block.out_cross(
            torch.cat([attend(rotate(a, rotation), rotate(b, repeated), c) for a, b, c in pairs], dim=1)
        )
        expected.append(tokens + block.mlp(block.norm_mlp(tokens)))
    memory = block.remember(references, rotation)
    assert isinstance(memory, FusionMemory)
    torch.testing.assert_close(block(x, memory, None, rotation), torch.stack(expected), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_frames_do_not_see_each_other() -> None:
    fusion, x = make(), features(1, 16, 3, 2, 2)
    memory = fusion.remember(features(1, 2, 16, 2, 2, seed=2))
    y = fusion(x, memory)
    for t in range(3):
        torch.testing.assert_close(fusion(x[:, :, t : t + 1], memory), y[:, :, t : t + 1], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_references_are_a_set() -> None:
    fusion, x, references = make(), features(2, 16, 2, 2, 2), features(2, 3, 16, 2, 2, seed=2)
    y = fusion(x, fusion.remember(references))
    permuted = fusion(x, fusion.remember(references[:, [2, 0, 1]]))
    torch.testing.assert_close(permuted, y, atol=1e-6, rtol=1e-6)
    assert (fusion(x, fusion.remember(references[:, :2])) - y).abs().max() > 1e-3


@torch.no_grad()
def test_masked_references_are_absent_ones() -> None:
    fusion, x, references = make(), features(2, 16, 2, 2, 2), features(2, 3, 16, 2, 2, seed=2)
    masked = fusion(x, fusion.remember(references), torch.tensor([[True, False, True], [True, True, False]]))
    torch.testing.assert_close(masked[:1], fusion(x[:1], fusion.remember(references[:1, [0, 2]])), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(masked[1:], fusion(x[1:], fusion.remember(references[1:, :2])), atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_attention_knows_places_by_their_difference_only() -> None:
    q, k = features(16), features(16, seed=2)
    cos, sin = axial_rotation(4, 4, 16, q.device)

    def score(a: int, b: int) -> float:
        return (rotate(q, (cos[a], sin[a])) @ rotate(k, (cos[b], sin[b]))).item()

    assert abs(score(0, 5) - score(10, 15)) < 1e-5  # one row and one column on
    assert abs(score(0, 5) - score(0, 1)) > 1e-3


def test_without_references_there_is_no_cross_attention() -> None:
    names = [name for name, _ in ReferenceFusion(replace(CONFIG, references=False)).named_parameters()]
    assert names
    assert not any("cross" in name or "reference" in name or ".kv" in name for name in names)
