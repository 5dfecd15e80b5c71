"""Hybrid portraits: one person's face in another's head, so that few people become many.

What makes strangers hard to read is skin, beards, make-up and light that were never seen around these lips and lids. The meshes
of two portraits have the same triangles, so the skin of one can be laid into the other and blended.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.data import landmarks as lm
from vivavoz.data.rig_mesh import ring_points
from vivavoz.data.warp import PORTRAIT_SIZE_PX, sample, warp_mesh

_FEATHER = 0.045
"""Softness of the seam, as a share of the face's height."""


def blend_faces(
    image: NDArray[np.uint8],
    landmarks: NDArray[np.float32],
    other_image: NDArray[np.uint8],
    other_landmarks: NDArray[np.float32],
    share: float,
) -> NDArray[np.uint8]:
    """A portrait (512, 512, 3) uint8 whose face is to `share` that of another; its own landmarks (478, 3) stay true.

    The other's skin takes on the portrait's mean colour and half of its contrast.
    """
    mine, theirs = (_vertices(points) for points in (landmarks, other_landmarks))
    height = float(np.linalg.norm(landmarks[lm.FOREHEAD_TOP, :2] - landmarks[lm.CHIN_TIP, :2]))
    source = warp_mesh(mine, theirs[:, :2], PORTRAIT_SIZE_PX, 0, height).source
    laid = sample(other_image, source, sharp=False)
    inside = np.zeros(image.shape[:2], np.float32)
    outline = landmarks[list(lm.OVAL), :2]
    cv2.fillPoly(inside, [np.round((outline - outline.mean(0)) * 0.94 + outline.mean(0)).astype(np.int32)], 1.0)
    own = image.astype(np.float32)
    where = inside > 0
    (spread, other_spread), (mean, other_mean) = ([f(part[where], axis=0) for part in (own, laid)] for f in (np.std, np.mean))
    laid = (laid - other_mean) * np.sqrt(spread / (other_spread + 1)) + mean
    radius = max(1, round(_FEATHER * height))
    alpha = share * cv2.blur(cv2.erode(inside, np.ones((radius, radius))), (2 * radius + 1, 2 * radius + 1))[..., None]
    return np.clip(own + alpha * (laid - own) + 0.5, 0, 255).astype(np.uint8)


def _vertices(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    skin = landmarks[: lm.NUM_SKIN_LANDMARKS].astype(np.float64)
    return np.concatenate([skin, ring_points(skin, reach=1.1 * PORTRAIT_SIZE_PX)])
