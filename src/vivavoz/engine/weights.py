"""Weights on disk: a folder with `config.json` (the preset), `vae.safetensors` and `generator.safetensors`."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vivavoz.engine.model import Model
from vivavoz.engine.runtime import RuntimeName
from vivavoz.errors import ConfigError, OutputError, WeightsError
from vivavoz.media.tensors import write_tensors
from vivavoz.presets import PRESETS, Preset

CONFIG_FILE = "config.json"
VAE_FILE = "vae.safetensors"
GENERATOR_FILE = "generator.safetensors"
"""Holds the generator and the audio encoder, under `generator.` and `audio.`."""


def load(
    name_or_path: str | os.PathLike[str] = "lite",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    runtime: RuntimeName = "auto",
) -> Model:
    """Load a model, ready to stream.

    Args:
        name_or_path: a preset whose weights ship inside the package, or a folder that `save_model` wrote.
        device: where to compute (None: a CUDA device if there is one, else the CPU).
        dtype: what the VAE and the generator compute in (None: float32).
        runtime: see `Model.use_runtime`.

    Raises:
        ConfigError: neither a preset nor a folder, or no such device.
        WeightsError: weights that are not there, damaged, of another format version, or not of their own preset's shapes.
    """
    folder = find_weights(name_or_path)
    preset = read_preset(folder)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    dtype = dtype or torch.float32
    # On the meta device nothing is drawn only to be overwritten. Hearing is small, and its tables are not among the weights.
    with torch.device("meta"):
        model = Model(preset)
    model.audio = type(model.audio)(preset.audio)
    _fill(model.vae, folder / VAE_FILE, "", preset, dtype)
    _fill(model.generator, folder / GENERATOR_FILE, "generator.", preset, dtype)
    _fill(model.audio, folder / GENERATOR_FILE, "audio.", preset, torch.float32)
    model.eval().to(device)
    model.use_runtime(runtime)
    return model


def check_device(device: torch.device | str) -> None:
    """Raise `ConfigError` where this machine cannot compute on a device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(
            f"cannot compute on {str(device)!r} ({reason}); expected a device of this machine, such as cpu"
        ) from error


def save_model(model: Model, folder: str | os.PathLike[str], dtype: torch.dtype = torch.bfloat16) -> None:
    """Write `model` to `folder`, made if need be. Parameters are stored as `dtype`, statistics of batch norm as they are.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        hearing_and_speaking = {
            **_stored(model.generator, "generator.", dtype),
            **_stored(model.audio, "audio.", dtype),
        }
        for name, tensors in ((VAE_FILE, _stored(model.vae, "", dtype)), (GENERATOR_FILE, hearing_and_speaking)):
            write_tensors(folder / name, tensors, {"preset": model.preset.name})
        (folder / CONFIG_FILE).write_text(model.preset.to_json(), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write weights to {folder}: {error}; give a folder that can be written") from error


def find_weights(name_or_path: str | os.PathLike[str]) -> Path:
    """Folder of a preset's shipped weights, or the folder itself. Raises as `load` does."""
    path = Path(name_or_path)
    if path.is_dir():
        return path
    name = str(name_or_path)
    if name not in PRESETS:
        raise ConfigError(f"unknown model {name!r}; expected a preset ({', '.join(PRESETS)}) or a folder with weights")
    shipped = Path(str(resources.files("vivavoz"))) / "weights" / name
    if not (shipped / CONFIG_FILE).is_file():
        raise WeightsError(
            f"no weights of the {name!r} preset are shipped; give a folder with trained weights, or another preset"
        )
    return shipped


def read_preset(folder: Path) -> Preset:
    """The preset that weights in `folder` belong to. Raises `WeightsError` when it is missing or not readable."""
    path = folder / CONFIG_FILE
    try:
        return Preset.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{folder} has no {CONFIG_FILE}; give a folder with a model's weights") from error
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); copy the folder again") from error
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error


def _fill(module: nn.Module, path: Path, prefix: str, preset: Preset, dtype: torch.dtype) -> None:
    """Give `module` the tensors of a file whose names start with `prefix`, floating ones as `dtype`."""
    expected = module.state_dict()
    found = _read(path, prefix)
    for name, tensor in expected.items():
        if name not in found:
            raise WeightsError(
                f"{path} lacks {prefix}{name}; expected weights of the {preset.name!r} preset beside it: copy both"
            )
        if found[name].shape != tensor.shape:
            raise WeightsError(
                f"{path} has {prefix}{name} of shape {tuple(found[name].shape)}, expected {tuple(tensor.shape)} for the "
                f"{preset.name!r} preset beside it: these weights belong to another preset"
            )
    for name in found:
        if name not in expected:
            raise WeightsError(
                f"{path} has an unknown {prefix}{name}: these weights belong to another preset than {preset.name!r}"
            )
    # Copies lie where kernels like them to; the file's own memory may start at any byte.
    tensors = {name: tensor.to(dtype if tensor.is_floating_point() else None, copy=True) for name, tensor in found.items()}
    module.load_state_dict(tensors, assign=True)


def _read(path: Path, prefix: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; give a folder with a model's weights, all of its files")
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a mapping)
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path} is truncated or not a safetensors file ({reason}); copy it again") from error


def _stored(module: nn.Module, prefix: str, dtype: torch.dtype) -> dict[str, Tensor]:
    parameters = {name for name, _ in module.named_parameters()}
    return {
        prefix + name: (tensor.to(dtype) if name in parameters else tensor).detach().cpu().contiguous().clone()
        for name, tensor in module.state_dict().items()
    }
