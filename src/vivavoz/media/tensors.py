"""Files of tensors that exist whole or not at all, and that whoever may read the folder's other files may read too."""

from __future__ import annotations

import os
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vivavoz.errors import OutputError
from vivavoz.media.output import whole_file, writing


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; the umask decides who may read it. Raises `OutputError` where it cannot be written."""
    with whole_file(path, (".safetensors",)) as temporary, writing(path):
        mode = temporary.stat().st_mode
        try:
            save_file(dict(tensors), temporary, metadata=dict(metadata))
        except SafetensorError as error:
            raise OutputError(f"cannot write {path}: {error}; give a place that can be written, on a disk with room") from error
        temporary.chmod(mode)  # safetensors makes files for the owner alone
