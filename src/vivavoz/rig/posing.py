"""A portrait with other lips: what the decoder is shown where there is one portrait (docs/adr/0017-posed-portraits.md).

Shapes: S the portrait's side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.rig.finder import find_landmarks
from vivavoz.rig.head_pose import angles
from vivavoz.rig.motion import COLUMN
from vivavoz.rig.rig import Floats, RenderedFrame, Rig
from vivavoz.rig.warp import PORTRAIT_SIZE_PX

Pixels: TypeAlias = NDArray[np.uint8]
Find: TypeAlias = Callable[[Pixels], Floats | None]

MAX_TURN_DEG: Final = 25.0
"""Heads that look further aside or up are left as they are: half of the mouth is hidden."""
_SAME_JAW: Final = 0.02
"""A pose that differs less from the portrait's own mouth is the portrait itself."""
_MOVED_PX: Final = 0.25
"""Of the 512 portrait: what moves further is the pose's, the rest stays the portrait's own."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Posed:
    """One portrait in some poses."""

    pictures: tuple[Pixels, ...]
    """(S, S, 3) each."""
    labels: Floats
    """(M, len(LABELS)) of them, normalised; see `labels`."""


def pose_mouth(portrait: Pixels, jaws: Sequence[float], find: Find = find_landmarks) -> Posed | None:
    """The portrait with its jaw elsewhere, everything but the mouth and what it moves as it was.

    Args:
        portrait: (S, S, 3) uint8 RGB, cropped as avatars are.
        jaws: how far the jaw is down in each picture: 0 lips shut, 1 the widest (`motion.MOTION`).
        find: landmarks (478, 3) of a portrait (512, 512, 3); None where there is no telling.

    Returns:
        A picture for each; None where there is no face that can be posed.
    """
    own, side = portrait, PORTRAIT_SIZE_PX
    if len(own) != side:
        own = np.asarray(cv2.resize(own, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    points = find(own)
    if points is None:
        return None
    rig = Rig.from_image(own, points)
    yaw, pitch, _ = angles(rig.head.rotation)
    if max(abs(yaw), abs(pitch)) > MAX_TURN_DEG:
        return None
    return show_poses(rig, portrait, mouth_poses(rig, jaws))


def mouth_poses(rig: Rig, jaws: Sequence[float]) -> Floats:
    """Rows of motion (M, len(MOTION)) of a face at rest with the jaw so far down; the portrait's own where it nearly is."""
    rest = rig.rest()
    own = float(rest[COLUMN["jaw"]])
    poses = np.repeat(rest[None], len(jaws), axis=0)
    poses[:, COLUMN["jaw"]] = [own if abs(jaw - own) < _SAME_JAW else jaw for jaw in jaws]
    return poses


def show_poses(rig: Rig, portrait: Pixels, poses: Floats) -> Posed:
    """The rig's portrait (S, S, 3) in `mouth_poses`; at rest it is the portrait itself."""
    rest = rig.rest()
    resting = rig.render(rest, PORTRAIT_SIZE_PX, PORTRAIT_SIZE_PX)
    pictures = (portrait if np.array_equal(pose, rest) else _shown(rig, portrait, pose, resting) for pose in poses)
    return Posed(pictures=tuple(pictures), labels=rig.labels(poses))


def _shown(rig: Rig, portrait: Pixels, pose: Floats, resting: RenderedFrame) -> Pixels:
    frame = rig.render(pose, PORTRAIT_SIZE_PX, PORTRAIT_SIZE_PX)
    moved_px = np.linalg.norm(frame.flow - resting.flow, axis=2) * (PORTRAIT_SIZE_PX / 2)
    changed = ((moved_px > _MOVED_PX) | (np.maximum(frame.mask, resting.mask) > 0)).astype(np.float32)
    share = cv2.GaussianBlur(cv2.dilate(changed, np.ones((9, 9), np.uint8)), (0, 0), 2.0)
    size = (len(portrait), len(portrait))
    picture, share = (np.asarray(cv2.resize(part, size), np.float32) for part in (frame.image, share))
    return np.asarray(portrait + share[..., None] * (picture - portrait) + 0.5, np.uint8)
