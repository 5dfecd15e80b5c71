"""Training checkpoints by torch.distributed.checkpoint: a folder per checkpoint, whole or not there at all.

`checkpoint-00001200/` holds weights, optimizer and running average, in as many files as there are processes, and
`progress.json`, written last: without it a folder is what a kill left behind, and is passed over. One that was written by eight
processes can be read by one, and the other way round.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from vivavoz.errors import DataError
from vivavoz.train.average import Average

FORMAT = 2
_PROGRESS_FILE = "progress.json"


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    step: int = 0
    """Steps that are done."""
    seconds: float = 0.0
    """Time spent in training steps, over all the run's processes so far."""
    num_batches: int = 0
    """That its last step was divided into, over all processes; 0: not known."""


def save_checkpoint(
    folder: Path, progress: Progress, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None
) -> None:
    """Write a checkpoint into the run's folder, then remove the one before. All processes call it together."""
    path = folder / f"checkpoint-{progress.step:08d}"
    if _read_facts(path) is not None:
        return
    if _is_first():
        shutil.rmtree(path, ignore_errors=True)
    _meet()
    content = {"model": get_model_state_dict(module), "optimizer": get_optimizer_state_dict(module, optimizer)}
    if average is not None:
        content["average"] = average.state_dict()
    with _quiet():
        save(content, checkpoint_id=path, no_dist=not distributed.is_initialized())
    if _is_first():
        facts = {"format": FORMAT, **asdict(progress), "num_updates": None if average is None else average.num_updates}
        temporary = path / (_PROGRESS_FILE + ".tmp")
        temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        temporary.replace(path / _PROGRESS_FILE)
        for other in folder.glob("checkpoint-*"):
            if other != path:
                shutil.rmtree(other, ignore_errors=True)
    _meet()


def load_checkpoint(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None
) -> Progress:
    """Restore the newest checkpoint in the run's folder; a fresh start where there is none.

    Raises:
        DataError: it is not a checkpoint of this format, or of another model.
    """
    newest = _newest(folder)
    if newest is None:
        return Progress()
    path, facts = newest
    content: dict[str, Any] = {"model": get_model_state_dict(module), "optimizer": get_optimizer_state_dict(module, optimizer)}
    if average is not None:
        content["average"] = average.state_dict()
    unmoved = _unmoved(path, content["optimizer"]["state"])
    moved = {name: state for name, state in content["optimizer"]["state"].items() if name not in unmoved}
    _load(path, content | {"optimizer": content["optimizer"] | {"state": moved}})
    set_model_state_dict(module, content["model"])
    set_optimizer_state_dict(module, optimizer, content["optimizer"])
    for name, parameter in module.named_parameters():
        if name in unmoved:
            optimizer.state.pop(parameter, None)
    if average is not None:
        average.load_state_dict(content["average"], int(facts["num_updates"]))
    return _progress(facts)


def read_progress(folder: Path) -> Progress:
    """How far the run in a folder is; at its start where there is no checkpoint. Raises as `load_checkpoint` does."""
    newest = _newest(folder)
    return Progress() if newest is None else _progress(newest[1])


def load_part(folder: Path, name: str, module: nn.Module) -> Progress:
    """Load what the objective of the run in `folder` called `name` into `module`: averaged weights where they were kept.

    Gives how far the run was. Raises as `load_checkpoint` does, and where there is no checkpoint.
    """
    newest = _newest(folder)
    if newest is None:
        raise DataError(f"{folder} holds no checkpoint; expected one of a run that trained {name!r}: train it first")
    path, facts = newest
    weights = {f"{name}.{key}": value.clone() for key, value in module.state_dict().items()}
    _load(path, {"model": weights})
    if facts["num_updates"] is not None:
        stored = _stored(path)
        averaged = {key: value for key, value in weights.items() if f"average.{key}" in stored}
        _load(path, {"average": averaged})
    module.load_state_dict({key.removeprefix(f"{name}."): value for key, value in weights.items()})
    return _progress(facts)


def _progress(facts: dict[str, Any]) -> Progress:
    return Progress(int(facts["step"]), float(facts["seconds"]), int(facts.get("num_batches", 0)))


def _newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint, and what its `progress.json` says."""
    for path in sorted(folder.glob("checkpoint-*"), reverse=True):
        facts = _read_facts(path)
        if facts is not None:
            return path, facts
    return None


def _read_facts(path: Path) -> dict[str, Any] | None:
    try:
        text = (path / _PROGRESS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _foreign(path, error) from error
    try:
        facts = json.loads(text)
        known = {"format", "step", "seconds", "num_updates"} <= facts.keys()
    except (ValueError, AttributeError) as error:
        raise _foreign(path, error) from error
    if not known:
        raise _foreign(path, "it does not say how far it is")
    if facts["format"] != FORMAT:
        raise DataError(f"{path} is a checkpoint of format {facts['format']}, expected {FORMAT}; start a new run elsewhere")
    return dict(facts)


def _load(path: Path, content: dict[str, Any]) -> None:
    """Fill the tensors of `content` in place."""
    expected = {key: value.shape for key, value in _flat(content).items()}
    stored = _stored(path)
    for key, shape in expected.items():
        there = stored.get(key)
        if not isinstance(there, TensorStorageMetadata):
            raise DataError(f"{path} has no {key}; expected a checkpoint of this run: remove it or choose another folder")
        if there.size != shape:
            raise DataError(
                f"{path} has {key} of shape {tuple(there.size)}, expected {tuple(shape)}: remove it or choose another folder"
            )
    try:
        with _quiet():
            load(content, checkpoint_id=path, no_dist=not distributed.is_initialized())
    except CheckpointException as error:  # no Exception, and pages long
        raise _foreign(path, "its tensors cannot be read") from error
    except Exception as error:  # unpicklers and tensor copies raise nearly anything when a file is foreign or damaged
        raise _foreign(path, error) from error


def _stored(path: Path) -> dict[str, Any]:
    """What a checkpoint says of its tensors, by name."""
    try:
        return FileSystemReader(path).read_metadata().state_dict_metadata
    except Exception as error:  # an unpickler raises nearly anything
        raise _foreign(path, error) from error


def _unmoved(path: Path, states: dict[str, Any]) -> set[str]:
    """The parameters that had no gradient up to a checkpoint, so that the optimizer has nothing to say of them."""
    known = {key.rpartition(".")[0] for key in _stored(path)}
    return {name for name in states if f"optimizer.state.{name}" not in known}


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, Tensor):
            found[f"{prefix}{key}"] = value
    return found


def _foreign(path: Path, reason: object) -> DataError:
    line = (str(reason).splitlines() or [type(reason).__name__])[0]
    return DataError(f"{path} cannot be resumed ({line}): expected a checkpoint of this run; remove it or choose another folder")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that a single process saves for itself: it means to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _is_first() -> bool:
    return not distributed.is_initialized() or distributed.get_rank() == 0


def _meet() -> None:
    if distributed.is_initialized():
        distributed.barrier()
