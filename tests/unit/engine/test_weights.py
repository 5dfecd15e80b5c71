from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import images, lively_model, play, portrait, speech, tiniest
from vivavoz.engine.model import Model
from vivavoz.engine.weights import load, save_model
from vivavoz.errors import ConfigError, OutputError, WeightsError
from vivavoz.presets import tiny


@pytest.fixture(scope="module")
def model() -> Model:
    return lively_model(tiniest())


@pytest.fixture
def folder(tmp_path: Path, model: Model) -> Path:
    save_model(model, tmp_path / "weights", torch.float32)
    return tmp_path / "weights"


def test_what_is_saved_is_what_is_loaded(folder: Path, model: Model) -> None:
    loaded = load(folder, device="cpu")
    assert loaded.preset == model.preset
    assert not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert {tensor.device.type for tensor in [*loaded.parameters(), *loaded.buffers()]} == {"cpu"}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_are_for_whom_the_umask_says(tmp_path: Path, model: Model, umask: int) -> None:
    before = os.umask(umask)
    try:
        save_model(model, tmp_path / "weights")
    finally:
        os.umask(before)
    files = sorted((tmp_path / "weights").iterdir())
    assert [file.name for file in files] == ["config.json", "generator.safetensors", "vae.safetensors"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o666 & ~umask}


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(folder: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot compute on '{device}'"):
        load(folder, device=device)


def test_a_loaded_model_makes_the_same_pictures(folder: Path, model: Model) -> None:
    pictures = [
        images(play(m.avatar(portrait(), crop="none").stream(), speech(5_000))) for m in (model, load(folder, device="cpu"))
    ]
    assert (pictures[0] == pictures[1]).all()


def test_half_precision_halves_the_files_and_keeps_statistics(tmp_path: Path, folder: Path, model: Model) -> None:
    save_model(model, tmp_path / "half")
    stored = load_file(tmp_path / "half" / "generator.safetensors")
    assert stored["generator.latent_in.weight"].dtype == torch.bfloat16
    assert stored["audio.encoder.blocks.0.conv_block.1.running_mean"].dtype == torch.float32
    loaded = load(tmp_path / "half", device="cpu")
    assert loaded.dtype == torch.float32
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name).bfloat16().float()), name
    for part in ("vae.safetensors", "generator.safetensors"):
        assert (tmp_path / "half" / part).stat().st_size < 0.75 * (folder / part).stat().st_size


def test_the_compute_type_can_be_chosen_and_spares_hearing(folder: Path) -> None:
    loaded = load(folder, device="cpu", dtype=torch.bfloat16)
    assert {p.dtype for p in [*loaded.vae.parameters(), *loaded.generator.parameters()]} == {torch.bfloat16}
    assert {p.dtype for p in loaded.audio.parameters()} == {torch.float32}
    assert images(play(loaded.avatar(portrait(), crop="none").stream(), speech(2_000))).shape == (4, 64, 64, 3)


def test_saving_leaves_no_other_files(folder: Path, model: Model) -> None:
    save_model(model, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "generator.safetensors", "vae.safetensors"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, model: Model) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write weights"):
        save_model(model, tmp_path / "file")


def truncate(folder: Path) -> None:
    path = folder / "vae.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def another_preset(folder: Path) -> None:
    (folder / "config.json").write_text(tiny().to_json())


def another_width(folder: Path) -> None:
    preset = tiniest()
    (folder / "config.json").write_text(replace(preset, generator=replace(preset.generator, width=32)).to_json())


def another_version(folder: Path) -> None:
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**data, "format_version": 99}))


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "generator.safetensors")
    del tensors["generator.latent_in.weight"]
    save_file(tensors, folder / "generator.safetensors")


def with_a_tensor_too_many(folder: Path) -> None:
    tensors = load_file(folder / "vae.safetensors")
    save_file({**tensors, "third_eye": torch.zeros(1)}, folder / "vae.safetensors")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (truncate, "truncated or not a safetensors file"),
        (another_preset, "another preset|lacks"),
        (another_width, r"has generator\.\S+ of shape \(16,\), expected \(32,\) for the 'tiny' preset"),
        (another_version, "format version 99, expected 1"),
        (without_a_tensor, r"lacks generator\.latent_in\.weight"),
        (with_a_tensor_too_many, "unknown third_eye"),
        (lambda folder: (folder / "generator.safetensors").unlink(), "does not exist"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda folder: (folder / "vae.safetensors").write_text("hello"), "truncated or not a safetensors file"),
    ],
)
def test_damaged_weights_are_refused(folder: Path, damage: Callable[[Path], object], complaint: str) -> None:
    damage(folder)
    with pytest.raises(WeightsError, match=complaint) as caught:
        load(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_names_that_lead_nowhere() -> None:
    with pytest.raises(ConfigError, match="unknown model 'huge'; expected a preset"):
        load("huge")
    with pytest.raises(WeightsError, match="no weights of the 'tiny' preset are shipped"):
        load("tiny")
