"""Facial expression: how motion parameters move the landmarks of one person, before the head turns.

Everything here is in the head's own frame: x to the right of the picture, y down, z away from the camera, face height 1.
Legend: `F` frames, `V` mesh vertices, 478 landmarks.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vivavoz.rig import landmarks as lm
from vivavoz.rig.mesh import spreading_weights
from vivavoz.rig.motion import COLUMN

FULL_OPENING: Final = 0.16
"""Gap between the inner lips at jaw = 1, in face heights."""
_LEVEL_CORNERS: Final = 0.012
"""How far the corners of a mouth that does not smile lie above its middle, in face heights."""

_JAW_LINE: Final = {
    152: 1.0,
    148: 1.0,
    377: 1.0,
    176: 0.97,
    400: 0.97,
    149: 0.9,
    378: 0.9,
    150: 0.78,
    379: 0.78,
    136: 0.6,
    365: 0.6,
    172: 0.4,
    397: 0.4,
    58: 0.22,
    288: 0.22,
    132: 0.09,
    361: 0.09,
    93: 0.02,
    323: 0.02,
    175: 1.0,
    199: 1.0,
    200: 1.0,
}
_STILL: Final = tuple(i for i in lm.OVAL if i not in _JAW_LINE) + lm.NOSE + lm.CHEEKBONES
_LIP_RINGS: Final = (*lm.UPPER_LIP_RINGS, *lm.LOWER_LIP_RINGS)

_EYES: Final = (
    (lm.UPPER_LID_LEFT, lm.LOWER_LID_LEFT, lm.LID_CREASE_LEFT, lm.UPPER_ORBIT_LEFT, lm.UNDER_LID_LEFT, lm.EYE_CORNERS_LEFT),
    (lm.UPPER_LID_RIGHT, lm.LOWER_LID_RIGHT, lm.LID_CREASE_RIGHT, lm.UPPER_ORBIT_RIGHT, lm.UNDER_LID_RIGHT, lm.EYE_CORNERS_RIGHT),
)

CONTROLS: Final = tuple(
    dict.fromkeys(
        [
            *(i for ring in _LIP_RINGS for i in ring),
            *_JAW_LINE,
            *_STILL,
            *(i for eye in _EYES for group in eye for i in group),
            *lm.LOWER_ORBIT_LEFT,
            *lm.LOWER_ORBIT_RIGHT,
            *lm.BROW_LEFT,
            *lm.BROW_RIGHT,
            *lm.FOREHEAD_MIDDLE,
            *lm.CHEEK_LEFT[:2],
            *lm.CHEEK_RIGHT[:2],
        ]
    )
)
"""Landmarks moved directly; the rest of the mesh follows them smoothly."""


def _index(group: tuple[int, ...]) -> NDArray[np.int64]:
    return np.array(group)


def inner_gaps(neutral: NDArray[np.floating]) -> NDArray[np.float64]:
    """Gap between the inner lips at eleven places from corner to corner, (11,), in face heights, at least 0."""
    gaps = neutral[_index(lm.LOWER_INNER_LIP), 1] - neutral[_index(lm.UPPER_INNER_LIP), 1]
    return np.maximum(gaps, 0.0).astype(np.float64)


def displace(neutral: NDArray[np.floating], motion: NDArray[np.float32]) -> NDArray[np.float64]:
    """Displacements of the mesh for rows of motion, (F, V, 3), from a person's landmarks (478, 3) at rest in the head's frame."""
    moved = np.zeros((len(motion), lm.NUM_LANDMARKS, 3))
    _move_jaw_and_lips(neutral, motion, moved)
    for side, eye in enumerate(_EYES):
        _move_eye(neutral, motion, moved, side, eye)
    _move_brows(motion, moved)
    _wrinkle_nose(motion, moved)
    return np.asarray(spreading_weights(CONTROLS) @ moved[:, list(CONTROLS)].astype(np.float32), np.float64)


def _move_jaw_and_lips(neutral: NDArray[np.floating], motion: NDArray[np.float32], moved: NDArray[np.float64]) -> None:
    def of(name: str) -> NDArray[np.float64]:
        return motion[:, COLUMN[name], None].astype(np.float64)

    jaw, press, lower_in, pucker, wide, smile = (of(n) for n in ("jaw", "press", "lower_in", "pucker", "wide", "smile"))
    gaps = inner_gaps(neutral)
    rest = gaps[5]
    middle_x = neutral[[78, 308], 0].mean()
    half_width = max(1e-3, (neutral[308, 0] - neutral[78, 0]) / 2)
    place = np.clip((neutral[_index(lm.UPPER_INNER_LIP), 0] - middle_x) / half_width, -1, 1)
    place[[0, -1]] = -1, 1
    shape = (1 - place**2) ** 0.65

    gap = FULL_OPENING * jaw * (1 - press)
    gap = gap + lower_in * (0.015 * (1 - press) - gap)
    opened = np.where(gap <= rest, gaps * gap / max(rest, 1e-6), gaps + (gap - rest) * shape)
    change = opened - gaps
    opening, closing = np.maximum(change, 0), np.minimum(change, 0)
    jaw_change = FULL_OPENING * jaw - rest
    drop = np.where(jaw_change > 0, 0.8, 0.35) * jaw_change
    corner_drop = 0.28 * np.maximum(change[:, 5:6], 0)
    edge = np.abs(place) ** 2.5

    upper_inner = -0.07 * opening - 0.45 * closing + corner_drop * edge
    lower_inner = upper_inner + change
    # Lips that part keep their thickness; lips that close over teeth grow a little fuller.
    upper_outer = -0.07 * opening - 0.30 * closing + corner_drop * edge
    lower_outer = lower_inner - 0.12 * closing
    raised = (0.022 * of("upper_raise") + 0.006 * lower_in) * (1 - 0.6 * place**2)
    upper_inner = upper_inner - raised
    upper_outer = upper_outer - 0.9 * raised

    thickness_up = np.maximum(neutral[_index(lm.UPPER_INNER_LIP), 1] - neutral[_index(lm.UPPER_OUTER_LIP), 1], 0)
    thickness_low = np.maximum(neutral[_index(lm.LOWER_OUTER_LIP), 1] - neutral[_index(lm.LOWER_INNER_LIP), 1], 0)
    thinner = 0.25 * press - 0.12 * pucker
    upper_outer = upper_outer + thinner * thickness_up
    lower_outer = lower_outer - (thinner + 0.40 * lower_in) * thickness_low

    squeeze = (
        0.11 * np.maximum(wide, 0)
        + 0.09 * np.minimum(wide, 0)
        - 0.27 * pucker
        - 0.10 * np.maximum(change[:, 5:6], 0) / FULL_OPENING
    )
    # Corners that go down take the portrait's own smile along.
    own = neutral[[0, 17], 1].mean() - neutral[[61, 291], 1].mean()
    smiling, unsmile = max(0.0, float(own) - _LEVEL_CORNERS), np.minimum(smile, 0)
    lift = 0.034 * smile + smiling * unsmile
    squeeze = squeeze + 0.10 * min(1.0, smiling / 0.03) * unsmile
    depth = -0.045 * pucker + 0.02 * np.maximum(wide, 0) + 0.02 * lower_in
    for rings, inner, outer in (
        (lm.UPPER_LIP_RINGS, upper_inner, upper_outer),
        (lm.LOWER_LIP_RINGS, lower_inner, lower_outer),
    ):
        for number, ring in enumerate(rings):
            index = _index(ring)
            x = neutral[index, 0] - middle_x
            share = number / (len(rings) - 1)
            moved[:, index, 0] = squeeze * x + 0.02 * smile * place * np.abs(place)
            moved[:, index, 1] = inner + (outer - inner) * share - lift * edge
            moved[:, index, 2] = depth * (1 - 0.5 * edge)
    # Lips that come to touch meet point by point.
    touching = np.maximum(np.clip(1 - opened[:, 5:6] / 0.02, 0, 1) - np.clip(1 - rest / 0.02, 0, 1), 0)
    upper_index, lower_index = _index(lm.UPPER_INNER_LIP), _index(lm.LOWER_INNER_LIP)
    apart = touching * (neutral[lower_index, 0] - neutral[upper_index, 0]) / 2
    moved[:, upper_index, 0] += apart
    moved[:, lower_index, 0] -= apart
    for rings in (lm.UPPER_LIP_RINGS, lm.LOWER_LIP_RINGS):
        for ring in rings:  # both lips share their corners
            for corner, column in ((ring[0], 0), (ring[-1], -1)):
                moved[:, corner, 1] = (corner_drop * edge - lift * edge)[:, column]
    for point, weight in _JAW_LINE.items():
        moved[:, point, 1] = weight * drop[:, 0]
        moved[:, point, 2] = 0.3 * weight * drop[:, 0]
    for side, group in ((-1, lm.CHEEK_LEFT), (1, lm.CHEEK_RIGHT)):
        for point, weight in zip(group[:2], (0.6, 1.0), strict=True):
            moved[:, point, 1] = (-(0.018 * smile + 0.4 * smiling * unsmile) * weight + 0.16 * weight * np.maximum(drop, 0))[:, 0]
            moved[:, point, 0] = (side * 0.010 * smile * weight - side * 0.012 * pucker * weight)[:, 0]


def _move_eye(
    neutral: NDArray[np.floating],
    motion: NDArray[np.float32],
    moved: NDArray[np.float64],
    side: int,
    eye: tuple[tuple[int, ...], ...],
) -> None:
    upper, lower, crease, orbit, under, _ = (_index(group) for group in eye)
    blink = motion[:, COLUMN["blink_left"] + side, None].astype(np.float64)
    gaze_y = motion[:, COLUMN["gaze_y"], None].astype(np.float64)
    smile = motion[:, COLUMN["smile"], None].astype(np.float64)
    brow = motion[:, COLUMN["brow"], None].astype(np.float64)
    gap = np.maximum(neutral[lower, 1] - neutral[upper, 1], 0)
    # The upper lid goes along with the gaze and opens with raised brows.
    lids = motion[:, COLUMN["lids"], None].astype(np.float64)
    narrow = 0.3 * np.maximum(-lids, 0)
    lift = np.clip(0.16 * gaze_y, -0.25, 0.16) + 0.05 * np.maximum(brow, 0) + 0.2 * np.maximum(lids, 0) - narrow
    closed = np.clip(blink - lift * (1 - blink), -0.2, 1)
    moved[:, upper, 1] = 0.88 * closed * gap
    moved[:, lower, 1] = -0.12 * np.maximum(blink, 0) * gap - (0.06 * np.maximum(smile, 0) + 0.5 * narrow) * gap * (1 - blink)
    moved[:, upper, 0] = closed * 0.5 * (neutral[lower, 0] - neutral[upper, 0])
    moved[:, lower, 0] = np.maximum(blink, 0) * -0.5 * (neutral[lower, 0] - neutral[upper, 0])
    moved[:, crease, 1] = 0.38 * np.maximum(blink, 0) * gap
    moved[:, orbit, 1] = 0.10 * np.maximum(blink, 0) * gap - 0.012 * brow
    moved[:, under, 1] = -0.10 * np.maximum(blink, 0) * gap - 0.05 * np.maximum(smile, 0) * gap


def _move_brows(motion: NDArray[np.float32], moved: NDArray[np.float64]) -> None:
    brow = motion[:, COLUMN["brow"], None].astype(np.float64)
    tilt = motion[:, COLUMN["brow_inner"], None].astype(np.float64)
    weights = np.array([0.75, 0.9, 1.0, 1.0, 0.95, 0.75, 0.9, 1.0, 1.0, 0.95])
    for side, group in ((1, lm.BROW_LEFT), (-1, lm.BROW_RIGHT)):
        index = _index(group)
        moved[:, index, 1] = -0.030 * brow * weights
        inner = np.array([0, 0.1, 0.3, 0.7, 1, 0, 0.1, 0.3, 0.7, 1])
        moved[:, index, 0] = 0.008 * side * (np.maximum(-brow, 0) + 0.6 * np.abs(tilt)) * inner
        moved[:, index, 1] -= tilt * (0.024 * inner - 0.005 * (1 - inner))
    moved[:, _index(lm.FOREHEAD_MIDDLE), 1] = -brow * np.array([0.016, 0.010, 0.013, 0.013, 0.013, 0.013])
    moved[:, _index(lm.FOREHEAD_MIDDLE), 1] -= tilt * np.array([0.010, 0.008, 0.014, 0.014, 0.004, 0.004])


def _wrinkle_nose(motion: NDArray[np.float32], moved: NDArray[np.float64]) -> None:
    sneer = motion[:, COLUMN["sneer"], None].astype(np.float64)
    for points, lift in (((48, 278, 64, 294, 98, 327), 0.026), ((97, 326, 115, 344, 220, 440), 0.017), ((205, 425), 0.020)):
        moved[:, points, 1] -= lift * sneer
