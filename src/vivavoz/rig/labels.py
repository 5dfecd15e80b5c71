"""Absolute labels of a rendered frame: the same numbers mean the same face, whoever it is."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vivavoz.rig import landmarks as lm
from vivavoz.rig.head_pose import HeadFit, angles
from vivavoz.rig.motion import COLUMN

# Name: (typical value, typical spread), from portraits in random motion.
_SCALE: Final[dict[str, tuple[float, float]]] = {
    "opening": (0.033, 0.030),
    "mouth_width": (0.335, 0.040),
    "pucker": (0.15, 0.25),
    "press": (0.1, 0.25),
    "lower_in": (0.05, 0.2),
    "upper_raise": (0.15, 0.25),
    "tongue": (0.1, 0.25),
    "smile": (0.033, 0.022),
    "eye_open_left": (0.25, 0.08),
    "eye_open_right": (0.25, 0.08),
    "gaze_x": (0.0, 0.085),
    "gaze_y": (0.065, 0.06),
    "brow_left": (0.109, 0.020),
    "brow_right": (0.109, 0.020),
    "yaw": (0.0, 7.5),
    "pitch": (0.0, 6.0),
    "roll": (0.0, 4.5),
    "centre_x": (0.5, 0.03),
    "centre_y": (0.475, 0.03),
    "face_height": (0.478, 0.035),
    "breath": (0.0, 0.01),
    "light": (0.0, 0.06),
}

LABELS: Final[tuple[str, ...]] = tuple(_SCALE)
"""Columns of a label array, in order.

Measured in the head's frame, in face heights: opening (gap of the inner lips), mouth_width, smile (corners above the lips'
middle), brow_left, brow_right (brow above eye). eye_open_left, eye_open_right and gaze_x (right), gaze_y (up) are in eye widths.
pucker, press, lower_in, upper_raise, tongue, breath and light are the motion's own. yaw, pitch, roll in degrees; centre_x,
centre_y and face_height in fractions of the crop. All are shifted and scaled to about zero mean and unit variance.
"""


def in_units(labels: NDArray[np.floating], name: str) -> NDArray[np.float32]:
    """One column of normalised labels (..., len(LABELS)), back in its own unit, (...)."""
    mean, spread = _SCALE[name]
    return np.asarray(labels[..., LABELS.index(name)] * spread + mean, np.float32)


def measure_labels(
    neutral: NDArray[np.float64],
    moved: NDArray[np.float64],
    motion: NDArray[np.float32],
    head: HeadFit,
    centre: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Labels (F, len(LABELS)) from landmarks with expression (F, 478, 3) in the head's frame, motion and face centres (F, 2)."""
    yaw, pitch, roll = angles(head.rotation)

    def of(name: str) -> NDArray[np.float32]:
        return motion[:, COLUMN[name]]

    def height(point: int | list[int]) -> NDArray[np.float64]:
        values = moved[:, point, 1]
        return values if values.ndim == 1 else values.mean(1)

    values: dict[str, NDArray] = {
        name: of(name) for name in ("pucker", "press", "lower_in", "upper_raise", "tongue", "breath", "light")
    }
    values["opening"] = np.maximum(moved[:, 14, 1] - moved[:, 13, 1], 0)
    values["mouth_width"] = np.linalg.norm((moved[:, 291] - moved[:, 61])[:, :2], axis=1)
    values["smile"] = height([0, 17]) - height([61, 291])
    for side, eye, corners, iris, brow in (
        ("left", (lm.UPPER_LID_LEFT, lm.LOWER_LID_LEFT), lm.EYE_CORNERS_LEFT, lm.IRIS_LEFT, lm.BROW_LEFT),
        ("right", (lm.UPPER_LID_RIGHT, lm.LOWER_LID_RIGHT), lm.EYE_CORNERS_RIGHT, lm.IRIS_RIGHT, lm.BROW_RIGHT),
    ):
        width = np.linalg.norm(neutral[corners[1], :2] - neutral[corners[0], :2])
        gaps = moved[:, list(eye[1][2:5]), 1] - moved[:, list(eye[0][2:5]), 1]
        values[f"eye_open_{side}"] = np.maximum(gaps.mean(1), 0) / width
        middle = neutral[list(corners), :2].mean(0)
        offset = (moved[:, iris[0], :2] - middle) / width
        values["gaze_x"] = values.get("gaze_x", 0) + offset[:, 0] / 2
        values["gaze_y"] = values.get("gaze_y", 0) - offset[:, 1] / 2
        values[f"brow_{side}"] = neutral[list(corners), 1].mean() - height(list(brow))
    values["yaw"], values["pitch"], values["roll"] = yaw + of("yaw"), pitch + of("pitch"), roll + of("roll")
    values["centre_x"], values["centre_y"] = centre[:, 0], centre[:, 1]
    values["face_height"] = head.scale_px / 512 * np.exp(of("scale"))
    return np.stack([(values[name] - mean) / spread for name, (mean, spread) in _SCALE.items()], 1).astype(np.float32)
