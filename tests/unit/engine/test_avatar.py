from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models import lively_model, portrait, tiniest, tiny_model
from vivavoz.errors import ConfigError, ImageError
from vivavoz.media.image import write_image
from vivavoz.presets import tiny


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
