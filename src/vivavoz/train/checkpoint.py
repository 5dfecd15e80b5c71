"""Training checkpoints: one file, written beside the old one and then renamed, so a kill at any moment leaves a whole one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vivavoz.errors import DataError

FORMAT = 1


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    step: int
    seconds: float
    """Time spent in training steps, over all the run's processes so far."""


def save_checkpoint(path: Path, progress: Progress, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> None:
    """Write weights, optimizer and progress atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "step": progress.step,
        "seconds": progress.seconds,
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimizer": optimizer.state_dict(),
    }
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> Progress:
    """Restore what `save_checkpoint` wrote; a fresh start where there is no file.

    Raises:
        DataError: the file is not a checkpoint of this format, or of another model.
    """
    if not path.exists():
        return Progress(0, 0.0)
    content = _read(path)
    try:
        for name, module in modules.items():
            module.load_state_dict(content["modules"][name])
        optimizer.load_state_dict(content["optimizer"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise _foreign(path, error) from error
    return Progress(int(content["step"]), float(content["seconds"]))


def read_progress(path: Path) -> Progress:
    """How far a checkpoint's run is; at its start where there is no file. Raises as `load_checkpoint` does."""
    if not path.exists():
        return Progress(0, 0.0)
    content = _read(path)
    return Progress(int(content["step"]), float(content["seconds"]))


def read_weights(path: Path, name: str) -> dict[str, Tensor]:
    """The weights of the module saved as `name`. Raises as `load_checkpoint` does, and where there is no file."""
    try:
        weights: dict[str, Tensor] = _read(path)["modules"][name]
    except KeyError as error:
        raise _foreign(path, error) from error
    return weights


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises nearly anything when a file is foreign or damaged
        raise _foreign(path, error) from error
    keys = {"format", "step", "seconds", "modules", "optimizer"}
    if not isinstance(content, dict) or not keys <= content.keys():
        raise _foreign(path, f"it lacks {', '.join(sorted(keys))}")
    if content["format"] != FORMAT:
        raise DataError(f"{path} is a checkpoint of format {content['format']}, expected {FORMAT}; start a new run elsewhere")
    return content


def _foreign(path: Path, reason: object) -> DataError:
    line = (str(reason).splitlines() or [type(reason).__name__])[0]
    return DataError(f"{path} cannot be resumed ({line}): expected a checkpoint of this run; remove it or choose another folder")
