from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.unit.vae.pictures import make_vae, portraits, smooth
from vivavoz.vae.config import WarpConfig, lite_vae_config, tiny_vae_config
from vivavoz.vae.vae import VAE
from vivavoz.vae.warp import ReferenceWarp, WarpFields, compose, resize_frames, sample_photos


def fields(batch: int, references: int, frames: int, side: int, **change: torch.Tensor) -> WarpFields:
    values = {
        "flow": torch.zeros(batch, references, 2, frames, side, side),
        "confidence": torch.full((batch, references, 1, frames, side, side), 1 / references),
        "shade": torch.ones(batch, references, 1, frames, side, side),
        "paint": torch.zeros(batch, 3, frames, side, side),
        "mask": torch.full((batch, 1, frames, side, side), -50.0),
    }
    return WarpFields(**(values | change))


def test_no_flow_and_no_paint_is_the_photograph() -> None:
    photos = smooth(2, 1, 3, 24, 24)
    out = compose(fields(2, 1, 3, 8), photos, (24, 24))
    assert out.shape == (2, 3, 3, 24, 24)
    torch.testing.assert_close(out, photos[:, 0, :, None].expand_as(out), atol=1e-5, rtol=0)


def test_a_flow_of_whole_pixels_moves_the_picture() -> None:
    photos = torch.randn(1, 1, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    flow = torch.zeros(1, 1, 2, 1, 8, 10)
    flow[:, :, 0], flow[:, :, 1] = 2 * 3 / 10, -2 * 2 / 8  # from 3 pixels to the right, 2 up
    out = sample_photos(photos, flow)[0, 0, :, 0]
    for row in range(8):
        for column in range(10):
            source = photos[0, 0, :, max(row - 2, 0), min(column + 3, 9)]  # beyond the border the border goes on
            torch.testing.assert_close(out[:, row, column], source, atol=1e-5, rtol=0)


def test_references_are_weighted_by_confidence() -> None:
    photos = torch.stack([torch.full((3, 8, 8), -1.0), torch.full((3, 8, 8), 1.0)])[None]
    confidence = torch.tensor([0.25, 0.75]).reshape(1, 2, 1, 1, 1, 1).expand(1, 2, 1, 1, 4, 4)
    out = compose(fields(1, 2, 1, 4, confidence=confidence), photos, (8, 8))
    torch.testing.assert_close(out, torch.full_like(out, 0.5))


def test_a_shade_scales_the_light() -> None:
    photos = torch.zeros(1, 1, 3, 8, 8)  # grey: light 1
    out = compose(fields(1, 1, 1, 4, shade=torch.full((1, 1, 1, 1, 4, 4), 1.25)), photos, (8, 8))
    torch.testing.assert_close(out, torch.full_like(out, 0.25))


def test_the_painted_layer_covers_by_its_mask() -> None:
    photos = torch.zeros(1, 1, 3, 8, 8)
    paint, mask = torch.full((1, 3, 1, 4, 4), 0.8), torch.full((1, 1, 1, 4, 4), 1.5)
    out = compose(fields(1, 1, 1, 4, paint=paint, mask=mask), photos, (8, 8))
    torch.testing.assert_close(out, torch.full_like(out, 0.8 * torch.tensor(1.5).sigmoid().item()))


def test_without_photographs_the_paint_is_all_there_is() -> None:
    paint = smooth(1, 3, 2, 4, 4)
    out = compose(fields(1, 1, 2, 4, paint=paint), None, (8, 8))
    torch.testing.assert_close(out, resize_frames(paint, (8, 8)))


@pytest.mark.parametrize("make_config", [lambda: tiny_vae_config(warp=True), lite_vae_config], ids=["tiny", "lite"])
@torch.no_grad()
def test_untrained_the_reference_comes_back(make_config) -> None:
    torch.manual_seed(0)
    vae = VAE(make_config()).eval()
    pictures = portraits(1, 2)
    pictures[:, 1] = pictures[:, 0]
    photos = smooth(1, 1, 3, 96, 160).expand(1, 2, -1, -1, -1)
    z = torch.randn(1, vae.config.latent_channels, 2, 1, 1)
    out = vae.decode(z, vae.encode_references(pictures, photos))
    assert out.shape == (1, 3, 5, 96, 160)
    # The paint starts black-grey under a mask of sigmoid(-4) = 0.018.
    expected = (1 - torch.sigmoid(torch.tensor(-4.0))) * photos[:, 0, :, None].expand_as(out)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)
    assert (out - photos[:, 0, :, None]).abs().max() < 0.019


@torch.no_grad()
def test_fields_are_in_range_and_at_half_the_side() -> None:
    vae = make_vae(tiny_vae_config(warp=True))
    made = vae.warp_fields(torch.randn(2, 8, 2, 1, 2), vae.encode_references(portraits(2, 3, 64, 128)))
    assert made.flow.shape == (2, 3, 2, 5, 32, 64)
    assert made.confidence.shape == (2, 3, 1, 5, 32, 64)
    assert made.paint.shape == (2, 3, 5, 32, 64)
    assert made.mask.shape == (2, 1, 5, 32, 64)
    torch.testing.assert_close(made.confidence.sum(1), torch.ones(2, 1, 5, 32, 64))
    assert made.flow.abs().max() <= 2  # a flow of at most 1, less an anchor of at most 1
    assert made.paint.abs().max() <= 1


@torch.no_grad()
def test_largest_offset_is_the_configured_part_of_the_side() -> None:
    vae = make_vae(replace(tiny_vae_config(warp=True), warp=WarpConfig(anchored=False)))
    assert isinstance(vae.head, ReferenceWarp)
    vae.head.conv_out.bias[0] = 1000
    made = vae.warp_fields(torch.randn(1, 8, 1, 1, 1), vae.encode_references(portraits(1, 1)))
    assert made.flow[:, :, 0].min().item() == 1  # half the side: grid_sample counts 2 for the whole


@torch.no_grad()
def test_a_copied_row_takes_all_its_references_along() -> None:
    vae, references = make_vae(tiny_vae_config(warp=True)), portraits(3, 2)
    z = torch.randn(3, 8, 4, 1, 1, generator=torch.Generator().manual_seed(2))
    state, alone = vae.init_decoder_state(3, 1, 1, 2), vae.init_decoder_state(1, 1, 1, 2)
    vae.decode(z[:, :, :2], vae.encode_references(references), state)
    vae.decode(z[1:2, :, :2], vae.encode_references(references[1:2]), alone)
    state.copy_row_(2, alone)
    rows = [0, 1, 1]
    after = vae.decode(z[rows, :, 2:], vae.encode_references(references[rows]), state)
    torch.testing.assert_close(after[2], after[1], atol=1e-5, rtol=0)
    expected = vae.decode(z[1:2, :, 2:], vae.encode_references(references[1:2]), alone)
    torch.testing.assert_close(after[2:], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_reference_stays_where_it_is_for_its_own_latent() -> None:
    z = torch.randn(2, 8, 2, 1, 1, generator=torch.Generator().manual_seed(3))  # of the two references of one row
    pictures = portraits(1, 2)
    for anchored in (True, False):
        vae = make_vae(replace(tiny_vae_config(warp=True), warp=WarpConfig(anchored=anchored)))
        references = vae.encode_references(pictures, latents=z[None, :, :, 0])
        for index in range(2):
            flow = vae.warp_fields(z[None, index, :, :1], references).flow[:, index]
            assert (float(flow.abs().max()) < 1e-6) == anchored
        assert vae.warp_fields(z[None, 1, :, :1], references).flow[:, 0].abs().max() > 1e-4  # the other one moves
