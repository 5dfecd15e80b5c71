"""The mesh that carries a portrait: 468 skin points, rings of points around the head, and how movement spreads over them.

Legend: `V` vertices, `N` triangles, `C` control points, `F` frames. The topology is the same for every portrait.
"""

import functools
import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vivavoz.rig import landmarks as lm

RING_SCALES: Final = (1.08, 1.22, 1.42, 1.75, 2.3)
"""Radii of the rings around the head, as multiples of the face's outline; hair, neck and shoulders hang on them."""
NUM_RING_POINTS: Final = len(lm.OVAL)
NUM_RINGS: Final = len(RING_SCALES) + 1
NUM_VERTICES: Final = lm.NUM_SKIN_LANDMARKS + NUM_RINGS * NUM_RING_POINTS


@functools.cache
def triangles() -> NDArray[np.int64]:
    """All triangles, (N, 3): those of the rings from the outermost inwards, then the face's."""
    loops: list[NDArray[np.int64]] = [np.array(lm.OVAL)]
    loops += [lm.NUM_SKIN_LANDMARKS + k * NUM_RING_POINTS + np.arange(NUM_RING_POINTS) for k in range(NUM_RINGS)]
    parts = []
    for inner, outer in reversed(list(itertools.pairwise(loops))):
        inner_next, outer_next = np.roll(inner, -1), np.roll(outer, -1)
        parts += [np.stack([inner, outer, outer_next], 1), np.stack([inner, outer_next, inner_next], 1)]
    return np.concatenate([*parts, lm.canonical_triangles()])


def num_ring_triangles() -> int:
    """How many of the first rows of `triangles` belong to the rings."""
    return 2 * NUM_RINGS * NUM_RING_POINTS


@functools.cache
def opening_triangles() -> NDArray[np.bool_]:
    """Which triangles span the lips' or the lids' openings, (N,)."""
    result = np.zeros(len(triangles()), bool)
    for loop in (lm.INNER_LIPS, lm.EYE_LEFT, lm.EYE_RIGHT):
        result |= np.isin(triangles(), loop).all(1)
    return result


def ring_points(skin: NDArray[np.floating], reach: float) -> NDArray[np.float64]:
    """Ring vertices around a face, (NUM_RINGS * 36, 3); the last ring is a circle of radius `reach` about the face.

    `skin` (468, 3) and the result share one coordinate frame and unit.
    """
    oval = skin[list(lm.OVAL)].astype(np.float64)
    centre = oval.mean(0)
    back = oval[:, 2].max()
    rings = []
    for scale in RING_SCALES:
        ring = centre + (oval - centre) * scale
        # Behind the outline the head curves back to its silhouette, which lies near the axis it turns about.
        ring[:, 2] = oval[:, 2] + (back - oval[:, 2]) * min(1.0, (scale - 1) * 1.5)
        rings.append(ring)
    direction = oval[:, :2] - centre[:2]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    outer = np.concatenate([centre[:2] + reach * direction, np.full((NUM_RING_POINTS, 1), back)], 1)
    return np.concatenate([*rings, outer])


@functools.cache
def spreading_weights(controls: tuple[int, ...]) -> NDArray[np.float32]:
    """Matrix (V, C) that spreads displacements of the control vertices smoothly over the mesh (least bending).

    The openings of the lips and lids are cut, so that the upper and lower sides move apart freely. Rings from the third
    outwards hold still.
    """
    skin = lm.canonical_points()[: lm.NUM_SKIN_LANDMARKS]
    points = np.concatenate([skin, ring_points(skin, 3.0)])
    solid = triangles()[~opening_triangles()]
    edges = np.unique(np.sort(np.concatenate([solid[:, [0, 1]], solid[:, [1, 2]], solid[:, [2, 0]]]), axis=1), axis=0)
    stiffness = 1.0 / np.maximum(np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1), 0.01)
    laplacian = np.zeros((NUM_VERTICES, NUM_VERTICES))
    laplacian[edges[:, 0], edges[:, 1]] = laplacian[edges[:, 1], edges[:, 0]] = -stiffness
    degree = -laplacian.sum(1)
    laplacian[np.diag_indices(NUM_VERTICES)] = degree
    # Bending, with a little stretching so that it does not overshoot.
    energy = laplacian.T @ (laplacian / degree[:, None]) + 0.05 * laplacian
    still = np.arange(lm.NUM_SKIN_LANDMARKS + 2 * NUM_RING_POINTS, NUM_VERTICES)
    fixed = np.concatenate([np.array(controls), still])
    free = np.setdiff1d(np.arange(NUM_VERTICES), fixed)
    weights = np.zeros((NUM_VERTICES, len(controls)))
    weights[list(controls)] = np.eye(len(controls))
    weights[free] = np.linalg.solve(energy[np.ix_(free, free)], -energy[np.ix_(free, np.array(controls))])
    return weights.astype(np.float32)
