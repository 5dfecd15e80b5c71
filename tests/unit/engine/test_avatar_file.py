from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.models import images, lively_model, picturewise, play, portrait, speech, tiny_model
from vivavoz.engine.avatar import Avatar
from vivavoz.engine.trees import tensors_of
from vivavoz.errors import ConfigError, ImageError, OutputError, WeightsError
from vivavoz.media.image import write_image


def changed_avatar() -> Avatar:
    """Unlike what its pictures alone would give."""
    avatar = lively_model(picturewise()).avatar([portrait(0, 256, 256), portrait(1, 256, 256)], crop="none", size=96)
    references = replace(avatar.references, latents=avatar.references.latents + 0.5)
    return replace(avatar, references=references)


def test_a_stored_avatar_speaks_as_before(tmp_path: Path) -> None:
    avatar = changed_avatar()
    avatar.save(tmp_path / "anna.safetensors")
    again = lively_model(picturewise()).avatar(tmp_path / "anna.safetensors")
    assert again.size == 96
    assert len(again.crops) == 2
    assert all(torch.equal(*pair) for pair in zip(tensors_of(again.references), tensors_of(avatar.references), strict=True))
    shown, before = (images(play(one.stream(), speech(8_000))) for one in (again, avatar))
    assert np.array_equal(shown, before)
    fresh = avatar.model.avatar([portrait(0, 256, 256), portrait(1, 256, 256)], crop="none", size=96)
    assert not np.array_equal(images(play(fresh.stream(), speech(8_000))), before)


def test_a_posed_portrait_is_stored_as_it_was_posed(tmp_path: Path) -> None:
    avatar = lively_model(picturewise()).avatar(portrait(0, 256, 256), crop="none", size=96)
    poses = (avatar.shown[0], avatar.shown[0][::-1].copy())
    both = avatar.model.avatar(list(poses), crop="none")
    assert both.references.cover is not None
    bare = replace(both.references, cover=both.references.cover - 3)
    path = tmp_path / "anna.safetensors"
    replace(avatar, shown=poses, references=bare).save(path)
    again = avatar.model.avatar(path)
    assert np.array_equal(np.stack(again.shown), np.stack(poses))
    assert again.references.num_references == 2
    assert again.references.cover is not None
    assert torch.equal(again.references.cover, bare.cover)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    found = load_file(path)
    del found["cover"]  # as in files written before there was one
    save_file(found, path, metadata=about)
    older = avatar.model.avatar(path).references
    assert older.cover is not None
    assert float(older.cover) == 0
    save_file(found | {"cover": torch.zeros(2)}, path, metadata=about)
    with pytest.raises(WeightsError, match="is damaged"):
        avatar.model.avatar(path)


def test_other_weights_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "anna.safetensors"
    changed_avatar().save(path)
    with pytest.raises(WeightsError, match="made with other weights of 'tiny'; make it again"):
        lively_model(picturewise(), seed=1).avatar(path)
    with pytest.raises(ConfigError, match="an avatar of 96: leave the size out"):
        lively_model(picturewise()).avatar(path, size=128)
    with pytest.raises(ImageError, match="expected it alone"):
        lively_model(picturewise()).avatar([path, portrait()])
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="holds no avatar"):
        tiny_model().avatar(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(WeightsError, match="cannot be read"):
        tiny_model().avatar(tmp_path / "text.safetensors")
    with pytest.raises(WeightsError, match="cannot be read"):
        tiny_model().avatar(tmp_path / "none.safetensors")


def test_what_does_not_go_with_its_pictures_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "anna.safetensors"
    avatar = changed_avatar()
    avatar.save(path)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    found = load_file(path)
    for name, tensor in (("kept.00", found["kept.00"][:, :1].clone()), ("kept.01", torch.zeros(0)), ("pictures", torch.zeros(2))):
        save_file(found | {name: tensor}, path, metadata=about)
        with pytest.raises(WeightsError, match="is damaged"):
            avatar.model.avatar(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        changed_avatar().save(tmp_path / "none" / "anna.safetensors")
    write_image(tmp_path / "anna.png", portrait())
    with pytest.raises(OutputError):
        changed_avatar().save(tmp_path / "anna.png")
