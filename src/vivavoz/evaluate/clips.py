"""How well a VAE gives back clips of real people, told apart by where its references are from (paper 4.4).

The clips are a corpus in shards, as `vivavoz data prepare` makes it. References are frames of the clip itself, from its first
on, or of other clips of the person. Beside the rebuilt pictures stands a copy of the first reference.

Shapes: M references, T frames, S side in px.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vivavoz.data.shards.clip import SIZES_PX
from vivavoz.data.shards.codec import decode_arrays, decode_frames
from vivavoz.data.shards.manifest import Manifest, StoredClip
from vivavoz.data.shards.storage import join
from vivavoz.errors import ConfigError, DataError
from vivavoz.evaluate.fidelity import Comparison, compare, mouth_region, pooled, rebuild, to_video
from vivavoz.evaluate.kept import Keep, keep_nothing
from vivavoz.evaluate.material import spread
from vivavoz.evaluate.reconstruction import Sample
from vivavoz.train.perceptual import Perceptual
from vivavoz.vae.vae import VAE

Source = Literal["same clip", "other clips"]
"""Where references are from."""
SOURCES: tuple[Source, ...] = get_args(Source)

MAX_REFERENCES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipsConfig:
    """What is rebuilt."""

    num_clips: int = 10
    num_frames: int = 17
    """Frames of a window, 1 + 4n."""
    size: int = 256
    """Side of the pictures."""
    reference_counts: tuple[int, ...] = (1, 2, 3)
    num_samples: int = 4
    """Clips of which one frame is kept to look at."""

    def __post_init__(self) -> None:
        """Refuse what cannot be rebuilt."""
        if self.num_clips < 1 or self.num_frames < 1 or self.num_frames % 4 != 1:
            raise ConfigError(
                f"got {self.num_clips} clips of {self.num_frames} frames, expected at least one, of 1 + 4n frames (1, 5, 9, ...)"
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RealClip:
    """A window of a real clip, with references of the same person."""

    key: str
    frames: NDArray[np.uint8]
    """(T, S, S, 3)."""
    mouth: NDArray[np.uint8]
    """(T, S, S): 1 on and around the mouth."""
    references: dict[Source, NDArray[np.uint8]]
    """(MAX_REFERENCES, S, S, 3) from either source; none from other clips of somebody who has too few."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldClips:
    """Windows of some clips of a corpus."""

    corpus: str
    """Name of its folder."""
    clips: tuple[RealClip, ...]
    num_people: int

    @property
    def keys(self) -> tuple[str, ...]:
        """The clips'."""
        return tuple(clip.key for clip in self.clips)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFidelity:
    """How well windows come back with references from one source."""

    source: Source
    num_references: int
    is_copy: bool
    """The first reference itself, not a rebuilt picture."""
    score: Comparison


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipsResult:
    """What `evaluate_clips` found."""

    corpus: str
    keys: tuple[str, ...]
    num_people: int
    fidelities: tuple[ClipFidelity, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Rebuilt:
    """One clip."""

    fidelities: tuple[ClipFidelity, ...]
    sample: Sample


def evaluate_clips(
    vae: VAE,
    held: HeldClips,
    perceptual: Perceptual,
    reference_counts: Sequence[int],
    progress: Callable[[str], None] = lambda _: None,
    keep: Keep = keep_nothing,
) -> tuple[ClipsResult, tuple[Sample, ...]]:
    """Encode and decode windows of real clips, and compare; and a picture of each to look at.

    `reference_counts` are 0 to MAX_REFERENCES.
    """
    rebuilt: list[_Rebuilt] = []
    for i, clip in enumerate(held.clips):
        rebuilt.append(keep(f"clip-{i}", _Rebuilt, partial(_rebuild_clip, vae, clip, perceptual, reference_counts)))
        progress(f"real clips: {i + 1}/{len(held.clips)}")
    scores: dict[tuple[int, bool, int], list[Comparison]] = defaultdict(list)
    for row in (row for one in rebuilt for row in one.fidelities):
        scores[SOURCES.index(row.source), not row.is_copy, row.num_references].append(row.score)
    rows = tuple(
        ClipFidelity(source=SOURCES[source], num_references=count, is_copy=not made, score=pooled(parts))
        for (source, made, count), parts in sorted(scores.items())
    )
    result = ClipsResult(corpus=held.corpus, keys=held.keys, num_people=held.num_people, fidelities=rows)
    return result, tuple(one.sample for one in rebuilt)


@torch.inference_mode()
def _rebuild_clip(vae: VAE, clip: RealClip, perceptual: Perceptual, reference_counts: Sequence[int]) -> _Rebuilt:
    z = vae.encode(to_video(clip.frames)).mean
    rows: list[ClipFidelity] = []
    shown: list[NDArray[np.uint8]] = []
    for source, pictures in clip.references.items():
        copy = np.broadcast_to(pictures[:1], clip.frames.shape)
        score = compare(copy, clip.frames, clip.mouth, perceptual)
        rows.append(ClipFidelity(source=source, num_references=1, is_copy=True, score=score))
        for count in reference_counts:
            rebuilt = rebuild(vae, z, vae.encode_references(to_video(pictures[:count]).transpose(1, 2)))
            score = compare(rebuilt, clip.frames, clip.mouth, perceptual)
            rows.append(ClipFidelity(source=source, num_references=count, is_copy=False, score=score))
            if source == "same clip":
                shown.append(rebuilt[-1])
    sample = Sample(
        name=clip.key,
        reference=clip.references["same clip"][0],
        truth=clip.frames[-1],
        counts=tuple(reference_counts),
        decoded=tuple(shown),
    )
    return _Rebuilt(fidelities=tuple(rows), sample=sample)


def read_clips(folder: str, config: ClipsConfig, *, held_only: bool = False) -> HeldClips:
    """Windows from the middle of some clips of a corpus, one of each, always the same.

    Args:
        folder: of the shards: a path or any fsspec URL.
        config: which windows.
        held_only: only people of the test and validation splits. Else these are preferred, and where there are none all clips
            are taken.

    Raises:
        DataError: no corpus, no clip that is long enough, nobody held back, or a damaged clip.
    """
    stored = [(join(folder, shard.name), clip) for shard in Manifest.load(folder).shards for clip in shard.clips]
    held = [one for one in stored if one[1].info.split != "train"]
    if held_only and not held:
        raise DataError(f"{folder} has no clips of people held back; make it larger, or name a corpus that has some")
    stored = held or stored
    wanted = [one for one in stored if one[1].info.num_frames >= config.num_frames + MAX_REFERENCES]
    if not wanted:
        raise DataError(
            f"{folder} has {len(stored)} clips, none of {config.num_frames + MAX_REFERENCES} frames; give longer clips"
        )
    by_person: dict[str, list[tuple[str, StoredClip]]] = defaultdict(list)
    for one in wanted:
        by_person[one[1].info.identity].append(one)
    chosen = spread(wanted, config.num_clips)
    clips = []
    for url, clip in chosen:
        family = by_person[clip.info.identity]
        others = [one for one in family if one[1].info.key != clip.info.key]
        clips.append(_read_window(url, clip, spread(others, MAX_REFERENCES), config))
    people = {clip.info.identity for _, clip in chosen}
    return HeldClips(corpus=Path(folder).name, clips=tuple(clips), num_people=len(people))


def _read_window(url: str, clip: StoredClip, others: Sequence[tuple[str, StoredClip]], config: ClipsConfig) -> RealClip:
    """A window from the middle of a clip; the clip's first frame and others before the window, or frames of other clips."""
    count, most = config.num_frames, MAX_REFERENCES
    start = most + (clip.info.num_frames - count - most) // 2
    own = [round(i * (start - 1) / (most - 1)) for i in range(most)]
    pictures = _frames(url, clip, [*own, *range(start, start + count)], config.size)
    landmarks = decode_arrays(clip.read(url, "npz"), clip.info.key)["landmarks"][start : start + count]
    scale = np.float32(config.size / SIZES_PX[0])
    references: dict[Source, NDArray[np.uint8]] = {"same clip": pictures[:most]}
    if len(others) == most:
        references["other clips"] = np.concatenate(
            [_frames(place, other, [other.info.num_frames // 2], config.size) for place, other in others]
        )
    return RealClip(
        key=clip.info.key,
        frames=pictures[most:],
        mouth=np.stack([mouth_region(points * scale, config.size) for points in landmarks]),
        references=references,
    )


def _frames(url: str, clip: StoredClip, wanted: Sequence[int], size: int) -> NDArray[np.uint8]:
    """Frames (T, S, S, 3) of a stored clip, from the smallest pictures that are large enough."""
    stored_px = min((side for side in SIZES_PX if side >= size), default=max(SIZES_PX))
    frames = decode_frames(clip.read(url, f"{stored_px}.mp4"), wanted, clip.info.key)
    interpolation = cv2.INTER_AREA if size <= stored_px else cv2.INTER_CUBIC
    return np.stack([np.asarray(cv2.resize(frame, (size, size), interpolation=interpolation), np.uint8) for frame in frames])
