import math

import pytest
import torch

from vivavoz.errors import ConfigError
from vivavoz.vae.config import VAEConfig, tiny_vae_config
from vivavoz.vae.face_map import NUM_PLACES, NUM_WAVES, FaceMap, waves
from vivavoz.vae.vae import VAE


@pytest.mark.parametrize("channels", [(4, 4, 8, 8), (4, 4, 8, 8, 16, 16)])
def test_sizes(channels):
    torch.manual_seed(0)
    seen = FaceMap(channels)(torch.rand(2, 3, 64, 128) * 2 - 1)
    assert seen.places.shape == (2, NUM_PLACES, 32, 64)
    assert [tuple(level.shape) for level in seen.levels] == [
        (2, channels[0] + NUM_WAVES, 32, 64),
        (2, channels[1] + NUM_WAVES, 16, 32),
        (2, channels[2] + NUM_WAVES, 8, 16),
    ]
    assert seen.coarse.shape == (2, channels[3], 4, 8)


def test_waves_tell_the_place_where_there_is_a_face_and_nothing_elsewhere():
    places = torch.tensor([[0.25, 0.25], [-0.5, -0.5], [30.0, -30.0], [0.0, 0.0], [0.0, 0.0]])[None, :, None]  # a face, and none
    on, off = waves(places)[0, :, 0].unbind(1)
    assert on.shape == (NUM_WAVES,)
    assert on[:2].tolist() == [0.25, -0.5]
    assert on[2:6].tolist() == pytest.approx([math.sin(math.pi / 4), -1, math.cos(math.pi / 4), 0], abs=1e-6)
    assert off[:-3].abs().max() < 1e-6
    assert on[-3:].tolist() == [1.0, 0.5, 0.5]


def test_a_face_map_without_frame_codes_is_refused():
    with pytest.raises(ConfigError, match="takes frame codes"):
        VAEConfig(face_map_channels=(8, 8, 8, 8))


def test_the_encoder_and_the_head_use_it():
    torch.manual_seed(0)
    vae = VAE(tiny_vae_config(warp=True)).eval()
    for convolution in (vae.head.conv_out, *vae.head.coarse_flows):
        torch.nn.init.normal_(convolution.weight)
    picture = torch.rand(1, 1, 3, 64, 64) * 2 - 1
    z = torch.randn(1, vae.config.latent_channels, 1, 1, 1)

    def decoded():
        references = vae.encode_references(picture)
        return references.latents, vae.decode(z, references)

    with torch.no_grad():
        before = decoded()
        vae.encoder.face_map.conv_in.weight += 0.1 * torch.randn_like(vae.encoder.face_map.conv_in.weight)
        after = decoded()
    assert all((one - other).abs().max() > 1e-4 for one, other in zip(before, after, strict=True))
