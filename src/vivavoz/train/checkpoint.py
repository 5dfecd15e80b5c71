"""Training checkpoints: one file, written beside the old one and then renamed, so that a kill at any moment leaves a whole one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise DataError(f"{path} is a checkpoint of format {content['format']}, expected {FORMAT}; start a new run elsewhere")
        for name, module in modules.items():
            module.load_state_dict(content["modules"][name])
        optimizer.load_state_dict(content["optimizer"])
    except (KeyError, RuntimeError, ValueError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be resumed ({reason}): expected a checkpoint of this run; remove it or choose another folder")
    return Progress(int(content["step"]), float(content["seconds"]))
