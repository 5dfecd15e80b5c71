"""Whether a long stream stays what it was: the background's PSNR against the portrait, and the head's pose.

Background is what lies above the chin and outside the face's outline, widened enough for hair and for what moves with the head.

Legend: S side of the pictures in px.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.engine.model import Model
from vivavoz.evaluate.faces import FindLandmarks, follow_face
from vivavoz.evaluate.kept import Keep, keep_nothing
from vivavoz.evaluate.material import HeldPortrait, Material, pick
from vivavoz.evaluate.speaking import speak
from vivavoz.rig.head_pose import fit_head
from vivavoz.rig.landmarks import CHIN_TIP, OVAL
from vivavoz.timing import FRAME_RATE, SAMPLES_PER_FRAME

_WIDEN = 1.9
"""The person's hull is the face's outline, enlarged this much about its middle."""
_POSE_EVERY_FRAMES = 5
_LEAST_SHARE = 0.01
"""Of the picture that must be background for it to count."""
_MOST_DB = 60.0
"""PSNR of equal pictures, which would be infinite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackgroundConfig:
    """What is streamed."""

    num_portraits: int = 2
    moments_s: tuple[int, ...] = (2, 30, 60)
    """When a second of pictures is looked at; the stream ends after the last."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """One portrait over time."""

    portrait: str
    share: float
    """Of the picture that is background."""
    psnr_db: tuple[float, ...]
    """Against the portrait, over the second from each moment on."""
    turned_deg: tuple[float, ...] = ()
    """How far the head is turned from the portrait's pose, about any axis, over the same second; none where not looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackgroundResult:
    """What `evaluate_background` found."""

    moments_s: tuple[int, ...]
    drifts: tuple[Drift, ...]

    @property
    def psnr_db(self) -> tuple[float, ...]:
        """Means over portraits, by moment."""
        return tuple(fmean(column) for column in zip(*(drift.psnr_db for drift in self.drifts), strict=True))

    @property
    def turned_deg(self) -> tuple[float, ...]:
        """Means over portraits, by moment; none where faces were not looked for."""
        return tuple(fmean(column) for column in zip(*(drift.turned_deg for drift in self.drifts), strict=True))

    @property
    def worst_loss_db(self) -> float:
        """The most that a portrait's background got worse from the first moment to the last."""
        return max((drift.psnr_db[0] - drift.psnr_db[-1] for drift in self.drifts), default=float("nan"))


def evaluate_background(
    model: Model,
    material: Material,
    config: BackgroundConfig,
    find: FindLandmarks | None,
    progress: Callable[[str], None] = lambda _: None,
    keep: Keep = keep_nothing,
) -> tuple[BackgroundResult, list[list[NDArray[np.uint8]]]]:
    """Let portraits speak for a long time; also a picture of every moment of every portrait, (S, S, 3).

    `find` tells how far heads turn; without it only the background is looked at.
    """
    num_frames = (config.moments_s[-1] + 1) * FRAME_RATE
    shown = [range(moment * FRAME_RATE, (moment + 1) * FRAME_RATE) for moment in config.moments_s]
    found: list[_Watched] = []
    for i, portrait in enumerate(material.portraits):
        region = background_region(portrait.landmarks, len(portrait.image))
        if len(found) == config.num_portraits:
            break
        if region.mean() < _LEAST_SHARE:
            progress(f"background: {portrait.name} has none")
            continue
        talk = np.concatenate([pick(material.speeches, i + k).samples for k in range(len(material.speeches))])
        sound = np.resize(talk, num_frames * SAMPLES_PER_FRAME)
        watch = partial(_watch, model, portrait, sound, config.seed + i, shown, region, find)
        found.append(keep(f"portrait-{i}", _Watched, watch))
        progress(f"background: {len(found)}/{min(config.num_portraits, len(material.portraits))} portraits")
    drifts = tuple(one.drift for one in found)
    return BackgroundResult(moments_s=config.moments_s, drifts=drifts), [list(one.looks) for one in found]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Watched:
    """One portrait, and a picture of it and of every moment."""

    drift: Drift
    looks: tuple[NDArray[np.uint8], ...]


def _watch(
    model: Model,
    portrait: HeldPortrait,
    sound: NDArray[np.float32],
    seed: int,
    shown: Sequence[range],
    region: NDArray[np.bool_],
    find: FindLandmarks | None,
) -> _Watched:
    images = speak(model, portrait.image, sound, seed=seed, shown=shown).images
    seconds = [images[k * FRAME_RATE : (k + 1) * FRAME_RATE] for k in range(len(shown))]
    drift = Drift(
        portrait=portrait.name,
        share=float(region.mean()),
        psnr_db=tuple(region_psnr(second, portrait.image, region) for second in seconds),
        turned_deg=()
        if find is None
        else tuple(turned_deg(follow_face(second[::_POSE_EVERY_FRAMES], find), portrait.landmarks) for second in seconds),
    )
    return _Watched(drift=drift, looks=(portrait.image, *(second[FRAME_RATE // 2] for second in seconds)))


def background_region(landmarks: NDArray[np.float32], size: int) -> NDArray[np.bool_]:
    """(size, size): whether a pixel is background, from the landmarks (478, 3) of the portrait in pixels."""
    outline = landmarks[list(OVAL), :2]
    middle = (outline.min(axis=0) + outline.max(axis=0)) / 2
    hull = cv2.convexHull(np.round((outline - middle) * _WIDEN + middle).astype(np.int32))
    person = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(person, hull, 1)
    person[int(landmarks[CHIN_TIP, 1]) :] = 1
    return person == 0


def turned_deg(landmarks: NDArray[np.float32], portrait: NDArray[np.float32]) -> float:
    """The mean angle in degrees between the heads of landmarks (F, 478, 3) and that of a portrait (478, 3)."""
    rest = fit_head(portrait).rotation
    cosines = [(np.trace(fit_head(points).rotation @ rest.T) - 1) / 2 for points in landmarks]
    return fmean(float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))) for cosine in cosines)


def region_psnr(images: tuple[NDArray[np.uint8], ...], truth: NDArray[np.uint8], region: NDArray[np.bool_]) -> float:
    """PSNR in dB of a region (S, S) of pictures against one picture of the same or another size, over all pixels; 60 at most."""
    side = len(images[0])
    if len(truth) != side:
        truth = np.asarray(cv2.resize(truth, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        region = cv2.resize(region.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST) != 0
    inside = truth[region].astype(np.float32)
    error = fmean(float(np.square(image[region] - inside).mean()) for image in images)
    return min(10 * float(np.log10(255**2 / error)), _MOST_DB) if error else _MOST_DB
