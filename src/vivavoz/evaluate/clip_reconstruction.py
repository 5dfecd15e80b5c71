"""How well a VAE gives back clips of people it has never seen, from a corpus in shards (paper 4.4).

Shapes: B windows, M references, T frames, S side in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from vivavoz.data.shards.clip import Split
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.shards.reading import ResidentWindows, WindowBatch, WindowConfig
from vivavoz.errors import DataError
from vivavoz.evaluate.metrics import psnr, ssim
from vivavoz.timing import FRAME_RATE
from vivavoz.train.clips import pictures
from vivavoz.train.perceptual import Perceptual
from vivavoz.vae.vae import VAE

MAX_REFERENCES = 3
_BATCH_SIZE = 8
_HELD_SPLITS: tuple[Split, ...] = tuple(split for split in get_args(Split) if split != "train")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFidelity:
    """Means over all frames of all windows, of pictures in [0, 1]."""

    corpus: str
    num_references: int
    l1: float
    psnr_db: float
    ssim: float
    perceptual: float
    """As `vivavoz.train.perceptual` measures it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldClips:
    """Windows of a corpus whose people no training has seen, with three references each."""

    name: str
    batches: tuple[WindowBatch, ...]

    @property
    def num_windows(self) -> int:
        """How many there are."""
        return sum(len(batch.keys) for batch in self.batches)


def hold_clips(shards: str, *, num_windows: int, num_frames: int, size_px: int, seed: int = 0) -> HeldClips:
    """Draw windows from the validation and test clips of a corpus, always the same.

    References are of other clips of the person where there are some, else frames of the same clip, half a second away at least.

    Raises:
        DataError: no corpus, or no such clip of `num_frames` frames.
    """
    splits = Manifest.load(shards).summary()["splits"]
    batches: list[WindowBatch] = []
    filled = [split for split in _HELD_SPLITS if splits[split]["clips"]]
    for split in filled:
        config = WindowConfig(
            batch_size=_BATCH_SIZE,
            num_frames=num_frames,
            split=split,
            reference_odds=(0.0,) * MAX_REFERENCES + (1.0,),
            other_clip_odds=1.0,
            reference_gap_frames=FRAME_RATE // 2,
            arrays=False,
            seed=seed,
        )
        windows = ResidentWindows(shards, config, side_px=size_px)
        batches += [windows[i] for i in range(-(-num_windows // (_BATCH_SIZE * len(filled))))]
    if not batches:
        raise DataError(f"{shards} has no clips of people held back; make it larger, or name a corpus that has some")
    return HeldClips(name=Path(shards).name, batches=tuple(batches))


@torch.inference_mode()
def measure_clips(vae: VAE, held: HeldClips, perceptual: Perceptual, counts: Sequence[int]) -> list[ClipFidelity]:
    """Encode, decode with so many references, and compare; a row for every number of references."""
    scores: dict[int, list[Tensor]] = {count: [] for count in counts}
    for batch in held.batches:
        video, references = _seen(batch)
        z = vae.encode(video).mean
        for count in counts:
            rebuilt = vae.decode(z, vae.encode_references(references[:, :count])).clamp(-1, 1)
            scores[count].append(_score(rebuilt, video, perceptual))
    return [_fidelity(held.name, count, rows) for count, rows in scores.items()]


@torch.inference_mode()
def measure_copies(held: HeldClips, perceptual: Perceptual) -> ClipFidelity:
    """What showing the first reference all the time would score."""
    rows = []
    for batch in held.batches:
        video, references = _seen(batch)
        rows.append(_score(references[:, :1].transpose(1, 2).expand_as(video), video, perceptual))
    return _fidelity(held.name, 1, rows)


def _seen(batch: WindowBatch) -> tuple[Tensor, Tensor]:
    """Video (B, 3, T, S, S) and references (B, M, 3, S, S), in [-1, 1]."""
    return pictures(batch.frames).transpose(1, 2), pictures(batch.references)


def _score(rebuilt: Tensor, video: Tensor, perceptual: Perceptual) -> Tensor:
    """Means over a batch's frames: absolute error, PSNR, SSIM, perceptual distance; (4,)."""
    a, b = (x.transpose(1, 2).flatten(0, 1) for x in (rebuilt, video))
    return torch.stack([(a - b).abs().mean() / 2, psnr(a, b).mean(), ssim(a, b).mean(), perceptual.distance(a, b)])


def _fidelity(corpus: str, count: int, rows: list[Tensor]) -> ClipFidelity:
    l1, psnr_db, structure, distance = torch.stack(rows).mean(dim=0).tolist()
    return ClipFidelity(corpus=corpus, num_references=count, l1=l1, psnr_db=psnr_db, ssim=structure, perceptual=distance)
