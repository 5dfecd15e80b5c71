"""The head's pose in a portrait, and turns about the neck.

Axes: x right, y down, z away from the camera. Yaw turns the nose to the right of the picture, pitch lifts the chin, roll tips
the top of the head to the right; all in degrees.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from vivavoz.rig import landmarks as lm

_PIVOT = np.array([0.0, 0.75, 0.40])
"""Where the head turns: inside the neck, a little below the chin (head's frame, face height 1)."""


def rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) of a head pose: yaw first, then pitch, then roll."""
    yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def angles(matrix: NDArray[np.float64]) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees of a rotation matrix; the inverse of `rotation`."""
    yaw = np.arctan2(matrix[2, 0], matrix[2, 2])
    pitch = np.arcsin(np.clip(-matrix[2, 1], -1, 1))
    roll = np.arctan2(-matrix[0, 1], matrix[1, 1])
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HeadFit:
    """How the mean face lies in a portrait: pixels = origin_px + scale_px * rotation @ head's frame."""

    rotation: NDArray[np.float64]
    scale_px: float
    """Face height in pixels."""
    origin_px: NDArray[np.float64]

    @property
    def pivot_px(self) -> NDArray[np.float64]:
        """The point the head turns about, (3,)."""
        return self.origin_px + self.scale_px * self.rotation @ _PIVOT

    def to_head(self, points_px: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points (n, 3) from pixels to the head's frame."""
        return np.asarray((points_px - self.origin_px) @ self.rotation / self.scale_px)


def fit_head(points_px: NDArray[np.floating]) -> HeadFit:
    """Fit the mean face to landmarks (478, 3) in pixels: least squares over the points that expression hardly moves."""
    stable = list(lm.STABLE_POINTS)
    model, target = lm.canonical_points()[stable].astype(np.float64), points_px[stable].astype(np.float64)
    model_mean, target_mean = model.mean(0), target.mean(0)
    left, stretch, right = np.linalg.svd((target - target_mean).T @ (model - model_mean))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    turn = (left * sign) @ right
    scale = float((stretch * sign).sum() / ((model - model_mean) ** 2).sum())
    return HeadFit(rotation=turn, scale_px=scale, origin_px=target_mean - scale * turn @ model_mean)
