"""What a clip's pictures show: labels of the face, and figures that the filters judge.

Legend: T frames, P points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.data.gaze import gaze_angles
from vivavoz.media.image import Pixels
from vivavoz.rig import landmarks as lm
from vivavoz.rig.head_pose import HeadFit, angles, fit_head

Floats: TypeAlias = NDArray[np.float32]

CROP_PX: Final = 512
SAMPLE_EVERY_FRAMES: Final = 5
"""Sharpness and occlusion are judged on every fifth picture."""

_SHUT: Final = 0.2
"""Of the usual gap of the lids: below it an eye is shut."""

_SKIN: Final = (*lm.NOSE, *lm.CHEEK_LEFT, *lm.CHEEK_RIGHT, *lm.CHIN[1:], *lm.FOREHEAD_MIDDLE, 164, 167, 393, 18, 83, 313, 36, 266)
"""Points on skin that stay in sight while the head turns a little and the mouth speaks."""
_OTHER_COLOUR: Final = 40.0
"""Grey levels by which a point's colour differs from its usual one if something lies before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """Figures of a clip. Shares are of its frames, from 0 to 1."""

    lost: float
    """Share without a face."""
    outside: float
    """Share whose face reaches over the crop's edge."""
    face_height: float
    """Median height of the face, forehead to chin, over the crop's side."""
    yaw_deg: float
    """Pose as its 90th percentile away from frontal."""
    pitch_deg: float
    roll_deg: float
    jump: float
    """Largest way the head goes from one picture to the next, in face heights."""
    sharpness: float
    """Median strength of fine detail in the face, 0 to about 1; see `sharpness`."""
    covered: float
    """Share of the pictures looked at in which something lies before the face."""


def measure_heads(landmarks: Floats) -> list[HeadFit]:
    """The head's pose in every frame, from landmarks (T, 478, 3) in pixels of the crop."""
    return [fit_head(points) for points in landmarks]


def face_labels(landmarks: Floats, heads: Sequence[HeadFit]) -> dict[str, NDArray]:
    """Head pose, gaze, blinks and lip shape of every frame, as clips are labelled: in the head's frame, in face heights."""
    poses = np.radians([angles(head.rotation) for head in heads])
    shape = np.stack([head.to_head(points) for points, head in zip(landmarks, heads, strict=True)])
    blinks, gazes = [], []
    for corners, upper, lower, iris in (
        (lm.EYE_CORNERS_LEFT, lm.UPPER_LID_LEFT, lm.LOWER_LID_LEFT, lm.IRIS_LEFT),
        (lm.EYE_CORNERS_RIGHT, lm.UPPER_LID_RIGHT, lm.LOWER_LID_RIGHT, lm.IRIS_RIGHT),
    ):
        width = np.maximum(np.linalg.norm(shape[:, corners[1], :2] - shape[:, corners[0], :2], axis=1), 1e-6)
        gap = np.maximum((shape[:, list(lower[2:5]), 1] - shape[:, list(upper[2:5]), 1]).mean(1), 0) / width
        usual = max(float(np.percentile(gap, 80)), 1e-6)
        blinks.append(np.clip((usual - gap) / (usual * (1 - _SHUT)), 0, 1))
        gazes.append((shape[:, iris[0], :2] - shape[:, list(corners), :2].mean(1)) / width[:, None])
    opening = np.maximum(shape[:, 14, 1] - shape[:, 13, 1], 0)
    stretch = np.linalg.norm(shape[:, 291] - shape[:, 61], axis=1)
    return {
        "head_pose": poses.astype(np.float32),
        "gaze": gaze_angles(np.mean(gazes, axis=0) * [1, -1]),
        "blink": np.stack(blinks, 1).astype(np.float32),
        "lip_shape": np.stack([opening, stretch, shape[:, 17, 1] - shape[:, 0, 1]], 1).astype(np.float32),
    }


def measure(crops: Sequence[Pixels], landmarks: Floats, heads: Sequence[HeadFit], lost: float, hands: Sequence[bool]) -> Measures:
    """Figures of a clip from its crops (512, 512, 3), landmarks (T, 478, 3) in their pixels, and heads.

    `lost` is the share of frames without a face (whose landmarks come from their neighbours); `hands` says of every fifth
    frame whether a hand lies on the face.
    """
    poses = np.abs([angles(head.rotation) for head in heads])
    yaw, pitch, roll = np.percentile(poses, 90, axis=0)
    origins = np.stack([head.origin_px[:2] for head in heads])
    scales = np.array([head.scale_px for head in heads])
    oval = landmarks[:, list(lm.OVAL), :2]
    outside = ((oval < 0) | (oval > CROP_PX)).any((1, 2))
    steps = np.linalg.norm(np.diff(origins, axis=0), axis=1) / scales[1:] if len(origins) > 1 else np.zeros(1)
    looked_at = range(0, len(crops), SAMPLE_EVERY_FRAMES)
    covered = other_colours([crops[i] for i in looked_at], landmarks[looked_at]) | np.asarray(hands, bool)
    return Measures(
        lost=lost,
        outside=float(outside.mean()),
        face_height=float(np.median(scales)) / CROP_PX,
        yaw_deg=float(yaw),
        pitch_deg=float(pitch),
        roll_deg=float(roll),
        jump=float(steps.max()),
        sharpness=float(np.median([sharpness(crops[i], landmarks[i]) for i in looked_at])),
        covered=float(covered.mean()),
    )


def sharpness(crop: Pixels, landmarks: Floats) -> float:
    """How much of the face's contrast is fine detail, about 0 (blurred) to 1 (noise), of one crop and its landmarks (478, 3).

    The strength of the Laplacian over that of the picture itself, at half size: where detail would show in a 256 px video.
    """
    points = landmarks[list(lm.OVAL), :2]
    left, top = np.clip(np.floor(points.min(0)), 0, CROP_PX - 16).astype(int)
    right, bottom = np.clip(np.ceil(points.max(0)), (left + 16, top + 16), CROP_PX).astype(int)
    grey = cv2.cvtColor(np.ascontiguousarray(crop[top:bottom, left:right]), cv2.COLOR_RGB2GRAY)
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.float32)
    return float(cv2.Laplacian(half, cv2.CV_32F).std() / max(float(half.std()), 1.0))


def other_colours(crops: Sequence[Pixels], landmarks: Floats) -> NDArray[np.bool_]:
    """Whether something of another colour lies before the face, (T,), as its skin usually looks in the clip.

    Lighter and darker light is told apart from another thing by what all points have in common. A hand has the skin's colour
    and is not seen this way.
    """
    colours = np.stack([_colours(crop, points) for crop, points in zip(crops, landmarks, strict=True)])
    usual = np.median(colours, axis=0)
    gain = np.median(colours / np.maximum(usual, 8.0), axis=(1, 2), keepdims=True)
    apart = np.abs(colours - gain * usual).max(-1)
    return np.asarray((apart > _OTHER_COLOUR).mean(1) > 0.15)


def _colours(crop: Pixels, landmarks: Floats) -> Floats:
    """Colours (P, 3) of the skin, smoothed over a few pixels."""
    small = cv2.resize(crop, (CROP_PX // 4, CROP_PX // 4), interpolation=cv2.INTER_AREA)
    where = np.clip(landmarks[list(_SKIN), :2] / 4, 0, CROP_PX // 4 - 1).astype(int)
    return np.asarray(small[where[:, 1], where[:, 0]], np.float32)


def on_face(points: Floats, landmarks: Floats) -> bool:
    """Whether any of some points (P, 2) lies within the face of landmarks (478, 3); both in pixels."""
    oval = np.ascontiguousarray(landmarks[list(lm.OVAL), :2], np.float32)
    return any(cv2.pointPolygonTest(oval, (float(x), float(y)), False) > 0 for x, y in points)
