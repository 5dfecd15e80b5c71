from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from tests.models import lively_model, portrait, posing_model, tiniest, tiny_model
from vivavoz.errors import ConfigError, ImageError
from vivavoz.media.image import write_image
from vivavoz.presets import tiny
from vivavoz.rig.expression import FULL_OPENING
from vivavoz.rig.labels import LABELS, in_units


def test_paths_and_arrays_make_the_same_person(tmp_path: Path) -> None:
    write_image(tmp_path / "anna.png", portrait())
    from_path = tiny_model().avatar(tmp_path / "anna.png", crop="none")
    from_array = tiny_model().avatar([portrait()], crop="none")
    assert from_path.size == 64
    assert from_path.crops[0].image.shape == (64, 64, 3)
    assert torch.equal(from_path.references.latents, from_array.references.latents)


def test_each_portrait_is_encoded_on_its_own() -> None:
    both = tiny_model().avatar([portrait(0), portrait(1)], crop="none").references
    second = tiny_model().avatar(portrait(1), crop="none").references
    assert both.latents.shape == (1, 2, 8, 1, 1)
    assert torch.allclose(both.latents[:, 1:], second.latents, atol=1e-5)


def test_a_portrait_shows_a_face_at_rest() -> None:
    preset = tiny(warp=True)
    trusting = lively_model(preset)
    wary = lively_model(replace(preset, vae=replace(preset.vae, resting_codes=((1, 0.3, 100.0),))))
    read = trusting.avatar(portrait(), crop="none").references.latents
    rested = wary.avatar(portrait(), crop="none").references.latents
    assert torch.allclose(rested[:, :, 1], torch.tensor(0.3))
    assert not torch.allclose(read[:, :, 1], torch.tensor(0.3))
    assert torch.equal(rested[:, :, [0, 2]], read[:, :, [0, 2]])


def test_the_warp_keeps_photographs_finer_than_the_vae_sees() -> None:
    model = lively_model(tiny(warp=True))
    photo = portrait(0, 256, 256)
    avatar = model.avatar(photo, crop="none")
    assert (avatar.size, avatar.references.size) == (128, (128, 128))
    assert avatar.references.photos is not None
    shown = ((avatar.references.photos[0, 0].permute(1, 2, 0) + 1) * 127.5).round().numpy().astype(np.uint8)
    assert np.array_equal(shown, avatar.crops[0].image)
    assert avatar.references.latents.shape[-2:] == (1, 1)


def test_a_lone_portrait_is_shown_with_its_lips_shut_and_with_its_mouth_open() -> None:
    model, photo = posing_model(), skimage.data.astronaut()
    avatar = model.avatar(photo)
    assert len(avatar.crops) == 1
    assert len(avatar.shown) == 2
    assert avatar.references.num_references == 2
    own, shut, wide = (image.astype(float) for image in (avatar.crops[0].image, *avatar.shown))
    lips = (slice(73, 80), slice(55, 72))
    white, none = (int(((image.min(axis=2) > 180) & (np.ptp(image, axis=2) < 35))[lips].sum()) for image in (own, shut))
    assert none < 0.2 * white, "teeth"
    assert np.abs(wide - shut)[lips].mean() > 10
    assert np.abs(wide - shut)[:48].max() < 2
    assert [float(one.references.cover) for one in (avatar, model.avatar(photo, posed=False))] == [-3, 0]
    codes = avatar.references.latents[0, :, : len(LABELS), 0, 0]
    opened = in_units((codes - codes[0]).numpy(), "opening") - in_units(np.zeros((2, len(LABELS))), "opening")
    assert opened == pytest.approx([0, 0.6 * FULL_OPENING], abs=1e-3)
    others = [name not in ("opening", "mouth_width", "smile") for name in LABELS]
    assert torch.allclose(codes[1, others], codes[0, others], atol=1e-5)


def test_what_cannot_or_shall_not_be_posed_is_shown_as_it_is() -> None:
    model, photo = posing_model(), skimage.data.astronaut()
    for avatar in (model.avatar(photo, posed=False), model.avatar(portrait(0, 256, 256), crop="none")):
        assert len(avatar.shown) == avatar.references.num_references == 1
        assert avatar.shown[0] is avatar.crops[0].image
    both = model.avatar([photo, photo[:, ::-1]])
    assert [np.array_equal(*pair) for pair in zip(both.shown, [cut.image for cut in both.crops], strict=True)] == [True, True]


@pytest.mark.parametrize(("warp", "size", "latent_side"), [(False, 128, 2), (True, 96, 1), (True, 128, 1)])
def test_another_size_can_be_asked_for(warp: bool, size: int, latent_side: int) -> None:
    avatar = lively_model(tiny(warp=warp)).avatar(portrait(0, 160, 160), crop="none", size=size)
    assert (avatar.size, avatar.references.size) == (size, (size, size))
    assert avatar.references.latents.shape[-1] == latent_side


@pytest.mark.parametrize("size", [0, 63, 100, 4096])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"size is {size}, expected a multiple of 64"):
        tiny_model().avatar(portrait(), crop="none", size=size)


def test_too_many_or_no_portraits_are_refused() -> None:
    model = lively_model(tiniest())
    with pytest.raises(ImageError, match="got 4 portraits, expected 1 to 3"):
        model.avatar([portrait(i) for i in range(4)], crop="none")
    with pytest.raises(ImageError, match="got 0 portraits"):
        model.avatar([], crop="none")


def test_a_picture_without_a_face_names_its_file(tmp_path: Path) -> None:
    write_image(tmp_path / "wall.png", np.full((100, 100, 3), 90, np.uint8))
    with pytest.raises(ImageError, match=r"wall\.png: no face found"):
        tiny_model().avatar(tmp_path / "wall.png")
