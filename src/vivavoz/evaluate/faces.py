"""Faces found again in pictures: followed over time, and laid over one another.

Legend: F pictures, S side in px. Landmarks are (478, 3) in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.errors import DataError
from vivavoz.rig.landmarks import STABLE_POINTS, canonical_points

FindLandmarks = Callable[[NDArray[np.uint8]], NDArray[np.float32] | None]
"""Finds a face: (H, W, 3) uint8 RGB -> landmarks (478, 3) in pixels, or None where there is no face."""

ALIGNED_PX = 224
"""Side of an aligned face."""
_FACE_HEIGHT = 0.80
"""Of an aligned face, forehead to chin, over the picture's side."""
_MIDDLE = 0.44
"""Where the point between eyes and nose lies in an aligned face, from its top."""


def follow_face(images: Iterable[NDArray[np.uint8]], find: FindLandmarks) -> NDArray[np.float32]:
    """Landmarks in every picture, (F, 478, 3); pictures without a face take theirs from their neighbours.

    Raises:
        DataError: no picture shows a face.
    """
    found = [find(image) for image in images]
    if all(points is None for points in found):
        raise DataError(f"no face found in any of {len(found)} pictures; expected a portrait in each: look at the video")
    return without_gaps(found)


def without_gaps(found: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """Landmarks of every picture, (F, 478, 3), where some were not found: on the line between their neighbours."""
    seen = [i for i, points in enumerate(found) if points is not None]
    known = np.stack([points for points in found if points is not None])
    times = np.arange(len(found))
    after = np.clip(np.searchsorted(seen, times), 0, len(seen) - 1)
    before = np.clip(np.searchsorted(seen, times, side="right") - 1, 0, len(seen) - 1)
    places = np.asarray(seen)
    share = (times - places[before]) / np.maximum(places[after] - places[before], 1)
    weight = np.clip(share, 0, 1)[:, None, None].astype(np.float32)
    return np.asarray((1 - weight) * known[before] + weight * known[after], np.float32)


def align_face(image: NDArray[np.uint8], landmarks: NDArray[np.floating], size: int = ALIGNED_PX) -> NDArray[np.uint8]:
    """A face (S, S, 3), shifted, turned and scaled: the points that expression hardly moves lie as in every other.

    `landmarks` are (478, 2) or more columns, in pixels of `image`.
    """
    stable = list(STABLE_POINTS)
    matrix = similarity(np.asarray(landmarks[stable, :2], np.float64), aligned_landmarks(size)[stable])
    return np.asarray(
        cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def aligned_landmarks(size: int = ALIGNED_PX) -> NDArray[np.float64]:
    """Where the landmarks of a mean face at rest lie in an aligned face, (478, 2) in pixels."""
    return canonical_points()[:, :2].astype(np.float64) * _FACE_HEIGHT * size + [size / 2, _MIDDLE * size]


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (2, 3) matrix of shift, turn and scale that brings points (n, 2) closest to others (least squares)."""
    a, b = source - source.mean(0), target - target.mean(0)
    along, across = (a * b).sum(), (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
    cosine, sine = np.array([along, across]) / np.square(a).sum()
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.concatenate([turn, (target.mean(0) - turn @ source.mean(0))[:, None]], axis=1)
