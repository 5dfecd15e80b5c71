"""The judges of videos: which metrics can be had with the weights at hand, and what to fetch for the others.

Weights come by path, from an option or an environment variable; those of `vivavoz sync` and `vivavoz CAPP` come with the package.
A metric without its weights is left out and says so; no other number takes its place.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Final

import torch

from vivavoz.engine.weights import check_device
from vivavoz.errors import ConfigError, WeightsError
from vivavoz.evaluate.videos.capp import Capp, load_capp
from vivavoz.evaluate.videos.fvd import VideoFeatures, load_i3d
from vivavoz.evaluate.videos.identity import FaceRecogniser, load_recogniser
from vivavoz.evaluate.videos.sync import SyncScorer, load_sync
from vivavoz.evaluate.videos.syncnet import SyncNet, load_syncnet
from vivavoz.train.perceptual import Perceptual, choose_perceptual


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgePaths:
    """Where weights lie; None for what is not at hand."""

    syncnet: Path | None = None
    i3d: Path | None = None
    face_recognition: Path | None = None
    capp: Path | None = None
    sync: Path | None = None
    squeezenet: Path | None = None
    squeezenet_heads: Path | None = None


ENVIRONMENT = {
    "syncnet": "VIVAVOZ_SYNCNET",
    "i3d": "VIVAVOZ_I3D",
    "face_recognition": "VIVAVOZ_FACE_RECOGNITION",
    "capp": "VIVAVOZ_CAPP",
    "sync": "VIVAVOZ_SYNC",
    "squeezenet": "VIVAVOZ_SQUEEZENET",
    "squeezenet_heads": "VIVAVOZ_SQUEEZENET_HEADS",
}
"""The variable that names each file."""

_SHIPPED: Final = Path(str(resources.files("vivavoz"))) / "weights"
SHIPPED_SYNC: Final = _SHIPPED / "sync" / "sync.safetensors"
"""The weights of `vivavoz sync` that are taken where no others are named; MODEL_CARD.md beside them says what they are."""
SHIPPED_CAPP: Final = _SHIPPED / "capp" / "capp.safetensors"
"""Those of `vivavoz CAPP`, the same."""

FETCH = {
    "syncnet": "S_C, S_D: fetch syncnet_v2.model (github.com/joonson/syncnet_python) and give --syncnet or VIVAVOZ_SYNCNET",
    "i3d": "FVD25: fetch i3d_torchscript.pt (github.com/universome/stylegan-v) and give --i3d or VIVAVOZ_I3D",
    "face_recognition": "identity: fetch w600k_r50.onnx (buffalo_l of github.com/deepinsight/insightface) "
    "and give --face-recognition or VIVAVOZ_FACE_RECOGNITION",
    "capp": "vivavoz CAPP: train with 'vivavoz evaluate train-capp' and give --capp or VIVAVOZ_CAPP",
    "sync": "vivavoz sync: train with 'vivavoz evaluate train-sync' and give --sync or VIVAVOZ_SYNC",
    "perceptual": "LPIPS: pip install lpips; or, for SqueezeNet's perceptual distance, give --squeezenet BACKBONE HEADS",
}
"""What to do about a metric that is left out."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judges:
    """What is at hand; None for what is not."""

    syncnet: SyncNet | None = None
    i3d: VideoFeatures | None = None
    recognise: FaceRecogniser | None = None
    capp: Capp | None = None
    sync: SyncScorer | None = None
    perceptual: Perceptual | None = None
    skipped: tuple[str, ...] = ()
    """A line for every metric that is left out: what to fetch."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """File name and first digits of the SHA-256 of all weights, by judge: what made a number."""


def paths_from(given: Mapping[str, Path | None], environment: Mapping[str, str] = os.environ) -> JudgePaths:
    """Paths from options, where there is none from the environment, and for `vivavoz sync` and CAPP at last the package's own."""
    found = {name: given.get(name) or _path(environment.get(variable)) for name, variable in ENVIRONMENT.items()}
    return JudgePaths(**{**found, "sync": found["sync"] or SHIPPED_SYNC, "capp": found["capp"] or SHIPPED_CAPP})


def load_judges(paths: JudgePaths, device: torch.device | str = "cpu") -> Judges:
    """Load every judge whose weights are given.

    Raises:
        WeightsError: a file that is given but missing, or not what it should be.
        ConfigError: only one of SqueezeNet's two files, or no such device.
    """
    check_device(device)
    for item in fields(paths):
        path = getattr(paths, item.name)
        if path is not None and not path.is_file():
            raise WeightsError(f"{path} ({item.name}) is no file; expected weights there: fetch them, or leave the option out")
    perceptual = _perceptual(paths, device)
    used = {
        "syncnet": paths.syncnet,
        "i3d": paths.i3d,
        "face_recognition": paths.face_recognition,
        "capp": paths.capp,
        "sync": paths.sync,
        "perceptual": paths.squeezenet if perceptual is not None and perceptual.name == "squeezenet" else None,
    }
    missing = [name for name, path in used.items() if path is None and not (name == "perceptual" and perceptual is not None)]
    return Judges(
        syncnet=None if paths.syncnet is None else load_syncnet(paths.syncnet).to(device),
        i3d=None if paths.i3d is None else load_i3d(paths.i3d, device),
        recognise=None if paths.face_recognition is None else load_recogniser(paths.face_recognition),
        capp=None if paths.capp is None else load_capp(paths.capp).to(device),
        sync=None if paths.sync is None else load_sync(paths.sync).to(device),
        perceptual=perceptual,
        skipped=tuple(FETCH[name] for name in missing),
        weights={name: f"{path.name} {_digest(path)}" for name, path in used.items() if path is not None},
    )


def _perceptual(paths: JudgePaths, device: torch.device | str) -> Perceptual | None:
    """LPIPS or SqueezeNet's distance; None rather than a comparison without a network."""
    both = (paths.squeezenet, paths.squeezenet_heads)
    if (both[0] is None) != (both[1] is None):
        raise ConfigError("got one of SqueezeNet's two files, expected both: --squeezenet BACKBONE HEADS, or the two variables")
    found = choose_perceptual(None if both[0] is None or both[1] is None else (both[0], both[1]), device)
    return None if found.name == "gradient_ssim" else found


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()[:12]
