import pytest
import torch

from tests.models import lively_model
from vivavoz.engine.runtime import decode_pictures
from vivavoz.presets import tiny
from vivavoz.vae.warp import compose


@pytest.mark.parametrize("warp", [False, True])
@pytest.mark.parametrize("num_references", [1, 2])
def test_pictures_are_the_video_in_levels_whether_made_at_once_or_one_by_one(warp: bool, num_references: int) -> None:
    vae = lively_model(tiny(warp=warp)).vae
    rng = torch.Generator().manual_seed(1)
    z = torch.randn(2, 8, 3, 1, 1, generator=rng)
    pictures = torch.rand(2, num_references, 3, 64, 64, generator=rng) * 2 - 1
    photos = torch.rand(2, num_references, 3, 96, 96, generator=rng) * 2 - 1
    with torch.inference_mode():
        references = vae.encode_references(pictures, photos=photos)
        states = [vae.init_decoder_state(2, 1, 1, num_references) for _ in range(2)]
        if warp:
            video = compose(vae.warp_fields(z, references, states[0]), photos, (96, 96))
        else:
            video = vae.decode(z, references, states[0])
        got = decode_pictures(vae, z, references, states[1])
    expected = ((video + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1)
    assert got.shape == ((2, 9, 96, 96, 3) if warp else (2, 9, 64, 64, 3))
    assert got.is_contiguous()
    assert torch.equal(got, expected)
