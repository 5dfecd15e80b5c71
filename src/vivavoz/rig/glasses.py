"""Glasses: whether a portrait wears them, and how far its skin may then follow the face's expression.

Frames do not bend. Where there are some, brows, nose bridge and orbits keep their places; lids and all below move as ever.
"""

import functools
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.rig import landmarks as lm
from vivavoz.rig.mesh import NUM_VERTICES
from vivavoz.rig.smoothstep import smoothstep

MIN_CONTRAST: Final = 0.32
"""Contrast, against the skin's brightness, of lines across the nose and under both eyes that are taken for a frame.

Dark frames reach it and thin metal ones do not, which fold and shadow of bare skin would outdo."""
_COLUMNS: Final = 27
_ROWS: Final = 72
_REACH_ROWS: Final = 12


def frame_contrast(image: NDArray[np.uint8], points: NDArray[np.floating]) -> float:
    """How much lines where glasses have them stand out from the skin, as a share of its brightness: the least of three.

    They are the bridge over the nose and the lower rims under both eyes. `image` (H, W, 3) RGB, `points` (478, 3) its
    landmarks in pixels.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    left, right = (points[list(corners), :2].astype(np.float64) for corners in (lm.EYE_CORNERS_LEFT, lm.EYE_CORNERS_RIGHT))
    nose = np.stack([left[1], right[1]])
    return min(
        _line_contrast(grey, nose, 0.22, (-0.32, 0.30)),
        _line_contrast(grey, left, 0.20, (0.38, 1.15)),
        _line_contrast(grey, right[::-1], 0.20, (0.38, 1.15)),
    )


def _line_contrast(grey: NDArray[np.uint8], ends: NDArray[np.float64], half: float, below: tuple[float, float]) -> float:
    """Contrast of the clearest line along two points (2, 2), in a patch that reaches `half` of their distance to either side.

    `below` is where the patch begins and ends under the points, in their distance.
    """
    across = ends[1] - ends[0]
    down = np.array([-across[1], across[0]])
    u, v = np.meshgrid(np.linspace(-half, half, _COLUMNS), np.linspace(*below, _ROWS))
    places = ends.mean(0) + u[..., None] * across + v[..., None] * down
    patch = cv2.remap(grey, places.astype(np.float32) - np.float32(0.5), np.empty(0), cv2.INTER_LINEAR).astype(np.float32)
    thirds = patch.reshape(_ROWS, 3, _COLUMNS // 3).mean(2)
    reach = _REACH_ROWS
    line = thirds[reach:-reach] - (thirds[: -2 * reach] + thirds[2 * reach :]) / 2
    line /= max(float(np.median(patch)), 16.0)
    # The line may be curved: what counts is the same sign at about the same height in all three thirds.
    near = np.ones((5, 1), np.uint8)
    return float(max(cv2.dilate(sign * line, near).min(1).max() for sign in (-1, 1)))


@functools.cache
def give_with_glasses() -> NDArray[np.float64]:
    """How far each vertex follows an expression on a face with glasses, (V,) in [0, 1]."""
    places = lm.canonical_points()[: lm.NUM_SKIN_LANDMARKS, 1]
    top = float(places[[*lm.BROW_LEFT, *lm.BROW_RIGHT]].min())
    bottom = float(places[[*lm.LOWER_ORBIT_LEFT, *lm.LOWER_ORBIT_RIGHT]].max()) + 0.03
    give = np.ones(NUM_VERTICES)
    give[: lm.NUM_SKIN_LANDMARKS] = np.maximum(1 - smoothstep(top - 0.06, top, places), smoothstep(bottom, bottom + 0.06, places))
    for lids in (lm.EYE_LEFT, lm.EYE_RIGHT):
        give[list(lids)] = 1.0
    for folds in (lm.LID_CREASE_LEFT, lm.LID_CREASE_RIGHT, lm.UNDER_LID_LEFT, lm.UNDER_LID_RIGHT):
        give[list(folds)] = 0.4
    return give
