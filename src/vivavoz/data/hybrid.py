"""Hybrid portraits: one person's face in another's head, so that few people become many.

What makes strangers hard to read is skin, beards, make-up, light and proportions that were never seen. Two portraits' meshes
have the same triangles, so the skin of one can be laid into the other, and the shape of one drawn towards the other's.
"""

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.rig import landmarks as lm
from vivavoz.rig.matte import Matte
from vivavoz.rig.warp import PORTRAIT_SIZE_PX, portrait_mesh, sample, warp_mesh

_FEATHER = 0.045
"""Softness of the seam, as a share of the face's height."""
_LARGEST_GAP = 0.015
"""Lips whose openings differ by more (in face heights) keep their shape: nothing is known of what would come into view."""


@dataclasses.dataclass(frozen=True, slots=True)
class Face:
    """A portrait with what is known of it."""

    image: NDArray[np.uint8]
    """(512, 512, 3) RGB."""
    landmarks: NDArray[np.float32]
    """(478, 3) in pixels."""
    matte: Matte | None = None
    """(512, 512), 255 on the person."""

    @property
    def height_px(self) -> float:
        """From the top of the forehead to the chin."""
        return float(np.linalg.norm(self.landmarks[lm.FOREHEAD_TOP, :2] - self.landmarks[lm.CHIN_TIP, :2]))

    @property
    def gap(self) -> float:
        """Opening of the lips in face heights."""
        return float(np.linalg.norm(self.landmarks[13, :2] - self.landmarks[14, :2])) / self.height_px


def blend_faces(mine: Face, other: Face, *, skin: float, shape: float) -> Face:
    """`mine` with a face that has another's skin to one share and another's shape to another, both in [0, 1].

    The other's skin takes on my mean colour and half of my contrast. Landmarks and matte go where the face goes.
    """
    if abs(mine.gap - other.gap) > _LARGEST_GAP:
        shape = 0.0
    points = mine.landmarks + np.float32(shape) * (_aligned(other.landmarks, mine.landmarks) - mine.landmarks)
    vertices, height = portrait_mesh(points), mine.height_px
    image, matte = mine.image, mine.matte
    if shape:
        own = warp_mesh(vertices, portrait_mesh(mine.landmarks)[:, :2], PORTRAIT_SIZE_PX, height).source
        image = np.clip(sample(image, own, sharp=True) + 0.5, 0, 255).astype(np.uint8)
        if matte is not None:
            matte = np.clip(sample(matte, own, sharp=False) + 0.5, 0, 255).astype(np.uint8)
    source = warp_mesh(vertices, portrait_mesh(other.landmarks)[:, :2], PORTRAIT_SIZE_PX, height).source
    laid = sample(other.image, source, sharp=False)
    inside = np.zeros(image.shape[:2], np.float32)
    outline = points[list(lm.OVAL), :2]
    cv2.fillPoly(inside, [np.round((outline - outline.mean(0)) * 0.94 + outline.mean(0)).astype(np.int32)], (1.0,))
    base, where = image.astype(np.float32), inside > 0
    spread, other_spread = (part[where].std(0) for part in (base, laid))
    mean, other_mean = (part[where].mean(0) for part in (base, laid))
    laid = (laid - other_mean) * np.sqrt(spread / (other_spread + 1)) + mean
    radius = max(1, round(_FEATHER * height))
    soft = cv2.blur(cv2.erode(inside, np.ones((radius, radius))), (2 * radius + 1, 2 * radius + 1))
    blended = base + skin * np.asarray(soft)[..., None] * (laid - base)
    return Face(np.clip(blended + 0.5, 0, 255).astype(np.uint8), points.astype(np.float32), matte)


def _aligned(points: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points (478, 3) moved, turned in the picture and sized to lie on `target` as well as they can."""
    here, there = points[:, :2].mean(0), target[:, :2].mean(0)
    a, b = ((part[:, :2] - centre) @ np.array([1, 1j]) for part, centre in ((points, here), (target, there)))
    turn = np.vdot(a, b) / np.vdot(a, a)
    moved = a * turn
    depth = (points[:, 2] - points[:, 2].mean()) * abs(turn) + target[:, 2].mean()
    return np.stack([moved.real + there[0], moved.imag + there[1], depth], 1).astype(np.float32)
