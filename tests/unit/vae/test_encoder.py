import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from tests.unit.vae.pictures import make_vae, portraits, video
from vivavoz.vae.config import paper_vae_config, tiny_vae_config
from vivavoz.vae.encoder import ChannelAffine, Encoder, Posterior


@pytest.mark.parametrize("num_frames", [1, 5, 9])
@torch.no_grad()
def test_shapes(num_frames: int) -> None:
    encoder = make_vae(tiny_vae_config()).encoder
    posterior = encoder(video(2, num_frames, 64, 128))
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 8, 1 + num_frames // 4, 1, 2)


def test_paper_size_compresses_768_times() -> None:
    with torch.device("meta"):
        encoder, clip = Encoder(paper_vae_config()), torch.empty(1, 3, 5, 64, 64)
    more = torch.empty(1, 3, 9, 64, 64, device="meta")
    shorter, longer = encoder(clip).mean, encoder(more).mean
    assert shorter.shape == (1, 64, 2, 1, 1)
    assert (more.numel() - clip.numel()) / (longer.numel() - shorter.numel()) == 768


@torch.no_grad()
def test_time_is_halved_at_the_fourth_and_sixth_block_and_space_after_every_second() -> None:
    encoder = make_vae(tiny_vae_config()).encoder
    x, shapes = encoder.e1.conv_in(video(1, 9)), []
    for stage in encoder.stages:
        x = stage(x)
        shapes.append(tuple(x.shape[2:]))
    assert shapes == [(9, 32, 32), (5, 16, 16), (3, 8, 8), (3, 4, 4), (3, 2, 2), (3, 1, 1)]


@torch.no_grad()
def test_a_picture_is_a_clip_of_one_frame() -> None:
    encoder, pictures = make_vae(tiny_vae_config()).encoder, portraits(2, 1)
    features = encoder.e1.pyramid(pictures[:, 0])
    assert [tuple(f.shape[1:]) for f in features] == [(8, 32, 32), (8, 16, 16), (16, 8, 8), (16, 4, 4)]
    torch.testing.assert_close(encoder.encode_features(features[-1], None).mean, encoder(pictures.transpose(1, 2)).mean)


def test_kl_is_the_divergence_from_a_standard_normal() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 3, 4, 1, 2), torch.randn(2, 3, 4, 1, 2)
    q = Independent(Normal(mean, (0.5 * log_variance).exp()), 5)
    p = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 5)
    torch.testing.assert_close(Posterior(mean, log_variance).kl(), kl_divergence(q, p) / mean.numel())
    assert Posterior(torch.zeros(1), torch.zeros(1)).kl().item() == 0


def test_samples_have_the_posteriors_moments_and_its_seed() -> None:
    mean, log_variance = torch.tensor([-1.0, 3.0]), torch.tensor([0.0, -2.0])
    posterior = Posterior(mean.expand(20_000, 2), log_variance.expand(20_000, 2))
    draws = posterior.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(draws.var(0), log_variance.exp(), atol=0.03, rtol=0)
    assert torch.equal(draws, posterior.sample(torch.Generator().manual_seed(0)))


def test_log_variance_stays_where_its_exponential_is_finite() -> None:
    posterior = Encoder.posterior(torch.tensor([[0.0, 1e4], [0.0, -1e4]]))
    assert posterior.log_variance.flatten().tolist() == [10, -20]
    assert posterior.kl().isfinite()


def test_an_affine_that_was_fitted_standardises_every_channel() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 2, 8, 8, generator=generator) * torch.tensor([0.5, 3.0, 12.0])[:, None, None, None]
    x = x + torch.tensor([100.0, -2.0, 0.0])[:, None, None, None]
    affine = ChannelAffine(3)
    affine.fit_(x)
    spread, mean = torch.std_mean(affine(x), dim=(0, 2, 3, 4))
    torch.testing.assert_close(mean, torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(spread, torch.ones(3), atol=3e-3, rtol=0)
