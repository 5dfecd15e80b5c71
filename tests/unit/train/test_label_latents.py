import math

import pytest
import torch

from vivavoz.train.label_latents import LabelLatents
from vivavoz.vae.frame_codes import GAINS


def labels(num_frames=9, num_labels=5, seed=0):
    return torch.randn(2, num_frames, num_labels, generator=torch.Generator().manual_seed(seed))


def cosine(order):
    """One row of the orthonormal cosine transform of four samples, written out."""
    scale = 0.5 if order == 0 else math.sqrt(0.5)
    return torch.tensor([scale * math.cos(math.pi * order * (f + 0.5) / 4) for f in range(4)])


def test_latents_are_the_scaled_cosine_transform_of_four_frames():
    x = labels()
    z = LabelLatents(5, 16)(x, 2, 3)
    assert z.shape == (2, 16, 3, 2, 3)
    for group in range(2):
        for order in range(3):
            for label in range(5):
                four = x[1, 1 + 4 * group : 5 + 4 * group, label]
                expected = GAINS[order] * (cosine(order) * four).sum()
                torch.testing.assert_close(z[1, 5 * order + label, 1 + group], expected.expand(2, 3))
    assert z[:, 15].abs().max() == 0


def test_the_first_latent_is_the_first_row_and_nothing_else():
    x = labels()
    z = LabelLatents(5, 16)(x, 1, 1)[:, :, 0, 0, 0]
    assert torch.equal(z[:, :5], x[:, 0])
    assert z[:, 5:].abs().max() == 0
    assert torch.equal(LabelLatents(5, 16)(x[:, :1], 1, 1)[:, :, 0, 0, 0], z)


def test_a_constant_keeps_its_value():
    z = LabelLatents(5, 16)(torch.full((1, 5, 5), 1.7), 1, 1)[0, :, 1, 0, 0]
    torch.testing.assert_close(z, torch.tensor([1.7] * 5 + [0.0] * 11))


def test_level_slope_and_bend_come_back_and_only_the_third_harmonic_is_lost():
    x = labels()
    read = LabelLatents(5, 16).read(LabelLatents(5, 16)(x, 2, 2))
    torch.testing.assert_close(read[:, 0], x[:, 0])
    before, after = (part[:, 1:].unflatten(1, (2, 4)) for part in (x, read))
    for order in range(3):
        torch.testing.assert_close(*(torch.einsum("f,bnfl->bnl", cosine(order), part) for part in (after, before)))
    third = torch.einsum("f,bnfl->bnl", cosine(3), before)
    torch.testing.assert_close(before - after, torch.einsum("f,bnl->bnfl", cosine(3), third))


def test_too_few_channels_lose_the_last_components():
    x = labels()
    whole, cut = LabelLatents(5, 15), LabelLatents(5, 13)
    torch.testing.assert_close(cut(x, 1, 1), whole(x, 1, 1)[:, :13])
    # Two bends are gone, the labels they belong to keep level and slope, the others are untouched.
    read, full = (map_.read(map_(x, 1, 1)) for map_ in (cut, whole))
    torch.testing.assert_close(read[..., :3], full[..., :3])
    lost = (full - read)[:, 1:, 3:].unflatten(1, (2, 4))
    for order in range(2):
        assert torch.einsum("f,bnfl->bnl", cosine(order), lost).abs().max() < 1e-6
    assert lost.abs().max() > 1e-2


@pytest.mark.parametrize("num_channels", [16, 64])
def test_reading_averages_over_places(num_channels):
    map_ = LabelLatents(5, num_channels)
    z = map_(labels(), 2, 2).clone()
    z[..., 0, 0] += 1
    z[..., 1, 1] -= 1
    torch.testing.assert_close(map_.read(z), map_.read(map_(labels(), 1, 1)))
