"""Avatars on disk: the portraits, and what the VAE and the generator keep of them, in one safetensors file.

An avatar made of pictures alone can be made again at any time; one that was trained (`vivavoz.train.personal`) cannot.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vivavoz.engine.trees import tensors_of, with_tensors
from vivavoz.errors import WeightsError
from vivavoz.media.image import Pixels
from vivavoz.media.tensors import write_tensors
from vivavoz.vae.vae import VAE, References

if TYPE_CHECKING:
    from vivavoz.engine.avatar import Avatar

AVATAR_SUFFIX = ".safetensors"
_KIND = "vivavoz avatar 1"


def is_avatar_file(data: bytes) -> bool:
    """Whether a file's content looks like an avatar's, not a picture's: a header's length, and its JSON."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data)


def write_avatar(avatar: Avatar, path: str | os.PathLike[str]) -> None:
    """See `Avatar.save`."""
    pictures = torch.from_numpy(np.stack(avatar.shown))
    kept = {_name(i): tensor.detach().cpu().contiguous() for i, tensor in enumerate(tensors_of(_kept(avatar.references)))}
    cover = avatar.references.cover
    if cover is not None:
        kept["cover"] = cover.detach().cpu().contiguous()
    about = {"kind": _KIND, "preset": avatar.model.preset.name, "vae": _digest(avatar.model.vae)}
    write_tensors(path, {"pictures": pictures, **kept}, about)


def read_pictures(path: Path, vae: VAE) -> tuple[list[Pixels], dict[str, Tensor]]:
    """What `write_avatar` wrote: the portraits, and the rest for `refilled`. Raises `WeightsError` for another file, or one of
    another model."""
    about, found = _read(path)
    if about.get("kind") != _KIND or "pictures" not in found:
        raise WeightsError(f"{path} holds no avatar; give a file that vivavoz personalise wrote, or pictures")
    if about.get("vae") != _digest(vae):
        raise WeightsError(f"{path} was made with other weights of {about.get('preset')!r}; make it again with these")
    pictures = found.pop("pictures").numpy()
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1:] != (pictures.shape[1], pictures.shape[1], 3):
        raise _damaged(path)
    return list(pictures), found


def refilled(references: References, found: Mapping[str, Tensor], path: Path) -> References:
    """References made of a file's pictures, as they were when it was written. Raises `WeightsError`."""
    kept = _kept(references)
    own = tensors_of(kept)
    theirs = [found.get(_name(i), torch.empty(0)) for i in range(len(own))]
    if any(its.shape != mine.shape for its, mine in zip(theirs, own, strict=True)):
        raise _damaged(path)
    latents, fusion, warp, anchor = with_tensors(kept, [its.to(mine) for its, mine in zip(theirs, own, strict=True)])
    cover = references.cover
    if cover is not None and "cover" in found:  # in files of before it is not
        if found["cover"].shape != cover.shape:
            raise _damaged(path)
        cover = found["cover"].to(cover)
    return replace(references, latents=latents, fusion=fusion, warp=warp, anchor=anchor, cover=cover)


def _damaged(path: Path) -> WeightsError:
    return WeightsError(f"{path} is damaged: it does not hold what its pictures ask for; make it again")


def _kept(references: References) -> tuple[Any, Any, Any, Any]:
    """All but the photographs, which the pictures are."""
    return references.latents, references.fusion, references.warp, references.anchor


def _name(index: int) -> str:
    return f"kept.{index:02}"


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"{path} cannot be read ({reason}); give an avatar's file, or pictures") from error


def _digest(module: nn.Module) -> str:
    """Hash of a module's weights: what they are, not what they compute in."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(name.encode())
        stored = tensor.detach().cpu().to(torch.bfloat16 if tensor.is_floating_point() else None)
        found.update(stored.contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]
