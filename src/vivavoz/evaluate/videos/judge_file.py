"""Files of small networks that judge clips: safetensors, half precision, with the network's name in the file."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from vivavoz.errors import WeightsError
from vivavoz.media.output import writing
from vivavoz.media.tensors import write_tensors

Network = TypeVar("Network", bound=nn.Module)


def save_judge(network: nn.Module, kind: str, path: Path) -> None:
    """Write the weights of a network of this kind. Raises `OutputError`."""
    tensors = {name: tensor.detach().to(torch.float16).contiguous().cpu() for name, tensor in network.state_dict().items()}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, {"kind": kind})


def load_judge(network: Network, kind: str, path: Path) -> Network:
    """Read the weights of a network of this kind in place. Raises `WeightsError`."""
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("kind")
            if found != kind:
                raise WeightsError(f"{path} holds {found or 'something unnamed'}, expected {kind}: give the right file")
            network.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"{path} cannot be used ({reason}); expected weights of {kind}") from error
    return network.eval()
