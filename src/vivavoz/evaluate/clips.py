"""How well the VAE gives back clips of real people, told apart by where its references are from.

The clips are a corpus in shards, as `vivavoz data prepare` makes it. References are frames of the clip itself, from its first
on, or of other clips of the person. Beside the rebuilt pictures stands a copy of the first reference.

Shapes: M references, T frames, S side in px.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vivavoz.data.shards.clip import SIZES_PX
from vivavoz.data.shards.codec import decode_arrays, decode_frames
from vivavoz.data.shards.manifest import Manifest, StoredClip
from vivavoz.data.shards.storage import join, read_bytes
from vivavoz.errors import DataError
from vivavoz.evaluate.fidelity import Comparison, compare, mouth_region, pooled, rebuild, to_video
from vivavoz.evaluate.loading import spread
from vivavoz.evaluate.reconstruction import Sample
from vivavoz.train.perceptual import Perceptual
from vivavoz.vae.vae import VAE

Source = Literal["same clip", "other clips"]
"""Where references are from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipsConfig:
    """What is rebuilt."""

    num_clips: int = 10
    num_frames: int = 17
    """Frames of a window, 1 + 4n."""
    reference_counts: tuple[int, ...] = (1, 2, 3)
    size: int = 256
    """Side of the pictures."""
    num_samples: int = 4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RealClip:
    """A window of a real clip, with references of the same person."""

    key: str
    frames: NDArray[np.uint8]
    """(T, S, S, 3)."""
    mouth: NDArray[np.uint8]
    """(T, S, S): 1 on and around the mouth."""
    references: dict[Source, NDArray[np.uint8]]
    """(M, S, S, 3) from either source; none from other clips of somebody who has one only."""


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

    keys: tuple[str, ...]
    num_people: int
    fidelities: tuple[ClipFidelity, ...]


@torch.inference_mode()
def evaluate_clips(
    vae: VAE,
    clips: Sequence[RealClip],
    config: ClipsConfig,
    perceptual: Perceptual,
    num_people: int,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[ClipsResult, tuple[Sample, ...]]:
    """Encode and decode windows of real clips, and compare; and some pictures to look at."""
    scores: dict[tuple[Source, bool, int], list[Comparison]] = {}
    samples: list[Sample] = []
    for i, clip in enumerate(clips):
        z = vae.encode(to_video(clip.frames)).mean
        decoded: dict[int, NDArray[np.uint8]] = {}
        for source, pictures in clip.references.items():
            copy = np.broadcast_to(pictures[:1], clip.frames.shape)
            scores.setdefault((source, True, 1), []).append(compare(copy, clip.frames, clip.mouth, perceptual))
            for count in config.reference_counts:
                rebuilt = rebuild(vae, z, vae.encode_references(to_video(pictures[:count]).transpose(1, 2)))
                scores.setdefault((source, False, count), []).append(compare(rebuilt, clip.frames, clip.mouth, perceptual))
                if source == "same clip":
                    decoded[count] = rebuilt[-1]
        if len(samples) < config.num_samples:
            samples.append(
                Sample(name=clip.key, reference=clip.references["same clip"][0], truth=clip.frames[-1], decoded=decoded)
            )
        progress(f"real clips: {i + 1}/{len(clips)}")
    rows = (
        ClipFidelity(source=source, num_references=count, is_copy=is_copy, score=pooled(parts))
        for (source, is_copy, count), parts in sorted(
            scores.items(), key=lambda item: (item[0][0] != "same clip", not item[0][1])
        )
    )
    return ClipsResult(keys=tuple(clip.key for clip in clips), num_people=num_people, fidelities=tuple(rows)), tuple(samples)


def read_clips(folder: str, config: ClipsConfig) -> tuple[list[RealClip], int]:
    """Windows from the middle of some clips of a corpus, and how many people they show.

    People of the test and validation splits are preferred; where there are none, all clips are taken.

    Args:
        folder: of the shards: a path or any fsspec URL.
        config: which windows.

    Raises:
        DataError: no corpus, no clip that is long enough, or a damaged one.
    """
    stored = [(join(folder, shard.name), clip) for shard in Manifest.load(folder).shards for clip in shard.clips]
    stored = [one for one in stored if one[1].info.split != "train"] or stored
    wanted = [one for one in stored if one[1].info.num_frames >= config.num_frames + max(config.reference_counts)]
    if not wanted:
        raise DataError(f"{folder} has {len(stored)} clips, none of {config.num_frames} frames and some more; give longer clips")
    by_person: dict[str, list[tuple[str, StoredClip]]] = defaultdict(list)
    for one in wanted:
        by_person[one[1].info.identity].append(one)
    chosen = spread(wanted, config.num_clips)
    clips = []
    for url, clip in chosen:
        family = by_person[clip.info.identity]
        others = [one for one in family if one[1].info.key != clip.info.key]
        clips.append(_read_window(url, clip, spread(others, max(config.reference_counts)), config))
    return clips, len({clip.info.identity for _, clip in chosen})


def _read_window(url: str, clip: StoredClip, others: Sequence[tuple[str, StoredClip]], config: ClipsConfig) -> RealClip:
    """A window from the middle of a clip; the clip's first frame and others before the window, or frames of other clips."""
    count, most = config.num_frames, max(config.reference_counts)
    start = most + (clip.info.num_frames - count - most) // 2
    own = [round(i * (start - 1) / max(most - 1, 1)) for i in range(most)]
    pictures = _frames(url, clip, [*own, *range(start, start + count)], config.size)
    landmarks = decode_arrays(read_bytes(url, *_span(clip, "npz")), clip.info.key)["landmarks"][start : start + count]
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
    frames = decode_frames(read_bytes(url, *_span(clip, f"{stored_px}.mp4")), wanted, clip.info.key)
    interpolation = cv2.INTER_AREA if size <= stored_px else cv2.INTER_CUBIC
    return np.stack([np.asarray(cv2.resize(frame, (size, size), interpolation=interpolation), np.uint8) for frame in frames])


def _span(clip: StoredClip, suffix: str) -> tuple[int, int]:
    """Where a member begins and ends."""
    if suffix not in clip.members:
        raise DataError(f"clip {clip.info.key} has no {suffix}; give the shards that `vivavoz data prepare` makes")
    start, length = clip.members[suffix]
    return start, start + length
