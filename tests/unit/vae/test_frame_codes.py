import pytest
import torch

from vivavoz.errors import ConfigError
from vivavoz.vae.config import VAEConfig
from vivavoz.vae.frame_codes import FrameCodes


def codes(num_frames=9, num_codes=5, seed=0):
    return torch.randn(2, num_codes, num_frames, 2, 3, generator=torch.Generator().manual_seed(seed))


def test_shapes_at_the_start_and_later():
    map_ = FrameCodes(5, 16)
    z = map_.pack(codes())
    assert z.shape == (2, 16, 3, 2, 3)
    assert map_.unpack(z).shape == (2, 5, 9, 2, 3)
    later = map_.pack(codes(8), is_start=False)
    assert later.shape == (2, 16, 2, 2, 3)
    assert map_.unpack(later, is_start=False).shape == (2, 5, 8, 2, 3)


def test_a_stream_in_parts_gives_what_a_clip_gives():
    map_ = FrameCodes(5, 16)
    x = codes()
    whole = map_.pack(x)
    parts = [map_.pack(x[:, :, :1]), map_.pack(x[:, :, 1:5], is_start=False), map_.pack(x[:, :, 5:], is_start=False)]
    assert torch.equal(torch.cat(parts, dim=2), whole)
    read = [map_.unpack(whole[:, :, :1]), map_.unpack(whole[:, :, 1:], is_start=False)]
    assert torch.equal(torch.cat(read, dim=2), map_.unpack(whole))


def test_smooth_motion_comes_back():
    x = torch.linspace(-1, 1, 9).expand(1, 5, 9)[..., None, None]
    map_ = FrameCodes(5, 16)
    torch.testing.assert_close(map_.unpack(map_.pack(x)), x, atol=0.03, rtol=0)


def test_the_variance_is_that_of_packed_noise():
    map_ = FrameCodes(2, 6)
    deviation = torch.tensor([0.5, 2.0])[:, None, None, None].expand(2, 5, 1, 1)
    noise = torch.randn(20_000, 2, 5, 1, 1, generator=torch.Generator().manual_seed(1)) * deviation
    measured = map_.pack(noise).var(dim=0)
    torch.testing.assert_close(map_.pack_variance(deviation[None].square())[0], measured, rtol=0.05, atol=0)


@pytest.mark.parametrize("frame_codes", [-1, 65])
def test_codes_must_fit_into_a_latent(frame_codes):
    with pytest.raises(ConfigError, match="frame_codes"):
        VAEConfig(frame_codes=frame_codes)
