"""Results that are kept beside a report, a file for each, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vivavoz.config_json import from_plain, to_plain
from vivavoz.engine.model import Model
from vivavoz.errors import ConfigError, DataError
from vivavoz.media.output import whole_file, writing

Result = TypeVar("Result")


class Keep(Protocol):
    """Gives a result by its name: as it is kept, or as `make` makes it now. `kind` is its frozen dataclass."""

    def __call__(self, name: str, kind: type[Result], make: Callable[[], Result]) -> Result:
        """See above."""


def keep_nothing(name: str, kind: type[Result], make: Callable[[], Result]) -> Result:
    """Makes every result anew."""
    return make()


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A folder of results. Those that were made of something else are made again."""

    folder: Path
    of: Mapping[str, Any]
    """What the results depend on, as plain values."""

    def once(self, name: str, kind: type[Result], make: Callable[[], Result], *, source: str = "") -> Result:
        """A `Keep`. The result is kept as soon as it is made, to the last bit, arrays too.

        `source` says what else this one depends on, such as a file's size and date. Raises `OutputError`.
        """
        path = self.folder / f"{name}.json"
        of = json.loads(json.dumps({**self.of, "source": source}))
        try:
            content = json.loads(path.read_text(encoding="utf-8"), object_hook=_to_array)
            if content["of"] == of:
                return from_plain(kind, content["result"], str(path))
        except (OSError, ValueError, KeyError, TypeError, ConfigError):
            pass  # never made, or not whole: made now
        result = make()
        text = json.dumps({"of": of, "result": to_plain(result)}, indent=1, default=_from_array)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, (".json",)) as temporary, writing(path):
            temporary.write_text(text + "\n", encoding="utf-8")
        return result

    def forget(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def fingerprint(model: Model) -> str:
    """What weights a model has, and how its preset samples them."""
    tensors = (tensor.detach().cpu().float().numpy() for _, tensor in sorted(model.state_dict().items()))
    return digest(chain([np.frombuffer(model.preset.to_json().encode(), np.uint8)], tensors))


def digest(arrays: Iterable[NDArray]) -> str:
    """Hash of all."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:20]


def state_of(path: Path) -> str:
    """Size and date of a file. Raises `DataError` where there is none."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; give a video file") from error
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def _from_array(value: object) -> dict[str, Any]:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} cannot be kept")
    data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
    return {"dtype": value.dtype.str, "shape": value.shape, "base64": data}


def _to_array(value: dict[str, Any]) -> dict[str, Any] | NDArray:
    if value.keys() != {"dtype", "shape", "base64"}:
        return value
    return np.frombuffer(base64.b64decode(value["base64"]), value["dtype"]).reshape(value["shape"]).copy()
