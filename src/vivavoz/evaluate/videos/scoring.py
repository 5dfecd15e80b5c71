"""Scores of one clip, alone and against the real one, and their means over many.

A score is under its key in `METRICS`; what could not be had is not there.

Legend: T pictures, n windows of 25 pictures, D = 400 features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vivavoz.errors import DataError
from vivavoz.evaluate.fidelity import score_pictures, to_video
from vivavoz.evaluate.videos.clips import TalkingClip
from vivavoz.evaluate.videos.face_motion import background_drift, blinks_per_minute, lip_agreement
from vivavoz.evaluate.videos.fvd import frechet_distance
from vivavoz.evaluate.videos.identity import identity_similarity
from vivavoz.evaluate.videos.judges import Judges


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A column of a report."""

    label: str
    better: Literal["up", "down", "as real"]
    digits: int
    what: str
    """In one line."""
    median: bool = False
    """Summed up by the median over clips, not by the mean."""


METRICS: dict[str, Metric] = {
    "syncnet_confidence": Metric(label="S_C", better="up", digits=3, what="SyncNet's confidence"),
    "syncnet_distance": Metric(label="S_D", better="down", digits=3, what="SyncNet's distance"),
    "syncnet_offset_frames": Metric(
        label="S offset", better="as real", digits=0, what="pictures by which SyncNet hears the sound too soon", median=True
    ),
    "sync_confidence": Metric(label="vivavoz sync", better="up", digits=3, what="the project's own scorer, its confidence"),
    "sync_distance": Metric(label="vivavoz sync distance", better="down", digits=3, what="and its distance"),
    "sync_offset_frames": Metric(
        label="sync offset", better="as real", digits=0, what="pictures by which it hears the sound too soon", median=True
    ),
    "capp": Metric(label="CAPP", better="up", digits=3, what="fit of head and voice, as published: its weights are not public"),
    "own_capp": Metric(label="vivavoz CAPP", better="up", digits=3, what="the animator's nods on accents; not for filmed people"),
    "fvd25": Metric(label="FVD25", better="down", digits=1, what="Frechet video distance over windows of 25 pictures"),
    "l1": Metric(label="L1", better="down", digits=4, what="mean difference of pixels, of a range of 1"),
    "psnr_db": Metric(label="PSNR", better="up", digits=2, what="dB, the mean over pictures"),
    "ssim": Metric(label="SSIM", better="up", digits=4, what="structural similarity, Gaussian windows of 11 x 11"),
    "lpips": Metric(label="LPIPS", better="down", digits=4, what="learned perceptual distance (VGG)"),
    "squeezenet": Metric(
        label="SqueezeNet distance", better="down", digits=4, what="perceptual distance on SqueezeNet; not LPIPS"
    ),
    "identity": Metric(label="identity", better="up", digits=3, what="cosine of face features with the real first picture"),
    "lip_r": Metric(label="lip r", better="up", digits=3, what="Pearson's r of the lips' opening with the real one"),
    "lip_gain": Metric(
        label="lip gain", better="as real", digits=2, what="deviation of the lips' opening over the real one's; 1 is as real"
    ),
    "closures": Metric(
        label="closures", better="up", digits=3, what="share of the real lips' closures that find the lips closed"
    ),
    "blinks_per_minute": Metric(label="blinks/min", better="as real", digits=1, what="blinks of both eyes a minute"),
    "background_drift": Metric(
        label="drift", better="as real", digits=2, what="grey levels between first and last second, off the person"
    ),
}
"""Every metric, in the order of columns. L1 is of pictures in [0, 1]."""

Scores = dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipScores:
    """What the judges say of one clip."""

    scores: Scores
    """By metric."""
    features: NDArray[np.float32] | None
    """(n, D) of I3D, for FVD; None without I3D."""
    failures: tuple[str, ...] = ()
    """Why a score is missing here that others may have, a line each."""


def score_alone(clip: TalkingClip, judges: Judges) -> ClipScores:
    """Scores that need no real clip: sync, head and voice, blinks and drift. What cannot be scored says why."""
    scores: Scores = {}
    failures: list[str] = []

    def take(score: Callable[[], Scores]) -> None:
        try:
            scores.update(score())
        except DataError as error:
            if (line := str(error)) not in failures:
                failures.append(line)

    if judges.syncnet is not None:
        take(lambda: _of_sync("syncnet", judges.syncnet, clip))
    if judges.sync is not None:
        take(lambda: _of_sync("sync", judges.sync, clip))
    if (capp := judges.capp) is not None:
        take(lambda: {"own_capp": capp.score(clip)})
    take(lambda: {"blinks_per_minute": blinks_per_minute(clip.labels()["blink"])})
    take(lambda: {"background_drift": background_drift(clip)})
    return ClipScores(
        scores={name: value for name, value in scores.items() if not np.isnan(value)},
        features=None if judges.i3d is None else judges.i3d(clip.frames),
        failures=tuple(failures),
    )


def score_against(clip: TalkingClip, real: TalkingClip, judges: Judges) -> ClipScores:
    """`score_alone`, and what compares with the real clip, over as many pictures as both have.

    Raises:
        DataError: pictures of another size.
    """
    num_frames = min(clip.num_frames, real.num_frames)
    clip, real = clip.cut(num_frames), real.cut(num_frames)
    alone = score_alone(clip, judges)
    scores = {**alone.scores, **fidelity(clip.frames, real.frames, judges)}
    if clip.landmarks is not None and real.landmarks is not None:
        agreement = lip_agreement(clip.labels()["lip_shape"][:, 0], real.labels()["lip_shape"][:, 0])
        if not np.isnan(agreement.r):
            scores |= {"lip_r": agreement.r, "lip_gain": agreement.gain}
        if agreement.num_closures:
            scores["closures"] = agreement.closures / agreement.num_closures
        if judges.recognise is not None:
            scores["identity"] = identity_similarity(judges.recognise, clip, real)
    return ClipScores(scores=scores, features=alone.features, failures=alone.failures)


@torch.inference_mode()
def fidelity(frames: NDArray[np.uint8], truth: NDArray[np.uint8], judges: Judges) -> Scores:
    """L1, PSNR, SSIM and the perceptual distance of pictures (T, H, W, 3), each the mean over pictures.

    Equal pictures have an infinite PSNR: they count as 100 dB, so that a mean stays finite.

    Raises:
        DataError: pictures of another shape.
    """
    if frames.shape != truth.shape:
        raise DataError(f"pictures of shape {frames.shape} against {truth.shape}; expected equal shapes: resize one of them")
    found = score_pictures(frames, truth)
    scores = {"l1": fmean(found.l1), "psnr_db": fmean(found.psnr_db), "ssim": fmean(found.ssim)}
    if (perceptual := judges.perceptual) is not None:
        pairs = ((to_video(one[None])[:, :, 0] for one in pair) for pair in zip(frames, truth, strict=True))
        scores[perceptual.name] = fmean(float(perceptual.distance(*pair)) for pair in pairs)
    return scores


def summarise_scores(clips: Iterable[Mapping[str, float]]) -> Scores:
    """Mean of every score over the clips that have it; the median for offsets."""
    gathered: dict[str, list[float]] = {}
    for scores in clips:
        for name, value in scores.items():
            gathered.setdefault(name, []).append(value)
    return {name: (median if METRICS[name].median else fmean)(gathered[name]) for name in METRICS if name in gathered}


def video_distance(generated: Sequence[NDArray | None], real: Sequence[NDArray | None]) -> Scores:
    """FVD25 of two sets of clips by their features; nothing without features, or with fewer than two windows."""
    ours, theirs = ([rows for rows in some if rows is not None and len(rows)] for some in (generated, real))
    if min(sum(map(len, ours)), sum(map(len, theirs))) < 2:
        return {}
    return {"fvd25": frechet_distance(np.concatenate(ours), np.concatenate(theirs))}


def _of_sync(name: str, judge: object, clip: TalkingClip) -> Scores:
    found = judge.score(clip)  # type: ignore[attr-defined]
    return {
        f"{name}_confidence": found.confidence,
        f"{name}_distance": found.distance,
        f"{name}_offset_frames": found.offset_frames,
    }
