import math

import torch

from vivavoz.flow.noise import context_noise_level, draw_flow_matching, gaussian_like, logit_normal


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_logit_normal_has_its_moments():
    logits = torch.logit(logit_normal((20_000,), rng()).double())
    assert abs(logits.mean()) < 0.03
    assert abs(logits.std() - 1) < 0.03


def test_context_noise_is_uniform_up_to_its_maximum():
    level = context_noise_level((20_000,), rng())
    assert 0 <= level.min() < 0.01
    assert 0.69 < level.max() <= 0.7
    assert math.isclose(level.mean().item(), 0.35, abs_tol=0.01)


def test_draw_is_consistent_and_reproducible():
    clean = torch.randn(3, 4, 6, 2, 2, generator=rng(1))
    draw, again, other = (draw_flow_matching(clean, rng(seed)) for seed in (5, 5, 6))
    assert torch.equal(draw.noised, again.noised)
    assert torch.equal(draw.context, again.context)
    assert not torch.equal(draw.noised, other.noised)
    # z_t = z + t * v, whatever was drawn.
    torch.testing.assert_close(draw.noised, clean + draw.flow_time[:, None, None, None, None] * draw.target)
    # The context has noise of its own.
    assert not torch.allclose(draw.context, draw.noised, atol=1e-2)


def test_context_without_noise_is_the_truth():
    clean = torch.randn(3, 4, 6, 2, 2, generator=rng(1))
    assert torch.equal(draw_flow_matching(clean, rng(), max_context_noise=0).context, clean)


def test_flow_time_per_block():
    clean = torch.zeros(2, 1, 6, 1, 1)
    draw = draw_flow_matching(clean, rng(), block_latents=4)
    assert draw.flow_time.shape == (2, 6)
    assert (draw.flow_time[:, :4] == draw.flow_time[:, :1]).all()
    assert (draw.flow_time[:, 4:] == draw.flow_time[:, 4:5]).all()
    assert (draw.flow_time[:, 0] != draw.flow_time[:, 4]).all()
    torch.testing.assert_close(draw.noised[:, 0, :, 0, 0], draw.flow_time * draw.target[:, 0, :, 0, 0])


def test_noise_takes_the_tensors_type():
    like = torch.zeros(2, 3, dtype=torch.bfloat16)
    noise = gaussian_like(like, rng())
    assert noise.dtype == torch.bfloat16
    assert torch.equal(noise, torch.randn(2, 3, generator=rng()).bfloat16())


def test_flow_times_shift_towards_noise_and_all_else_stays():
    clean = torch.randn(3, 4, 6, 2, 2, generator=rng(1))
    plain, shifted = (draw_flow_matching(clean, rng(), timestep_shift=shift) for shift in (1.0, 3.0))
    torch.testing.assert_close(shifted.flow_time, 3 * plain.flow_time / (1 + 2 * plain.flow_time))
    assert torch.equal(shifted.target, plain.target)
    assert torch.equal(shifted.context, plain.context)
