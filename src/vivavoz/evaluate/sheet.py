"""Pictures of a report: reconstructions side by side, and generated faces over the curve of their lips.

All images are (H, W, 3) uint8 RGB.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.evaluate.likeness import Pose
from vivavoz.evaluate.lips import LipSample
from vivavoz.evaluate.mouth import Track
from vivavoz.evaluate.reconstruction import Sample

TILE_PX = 192
TILES_IN_A_ROW = 8
CURVE_HEIGHT_PX = 160
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_TRUTH_COLOUR, _MODEL_COLOUR = (150, 150, 150), (200, 40, 40)

Image = NDArray[np.uint8]


def reconstruction_sheet(samples: Sequence[Sample]) -> Image:
    """A row for every sample: first reference, truth, and the reconstruction with every number of references."""
    heads = ("reference", "truth", *(f"M = {count}" for count in samples[0].counts))
    rows = [_row([sample.reference, sample.truth, *sample.decoded], heads if i == 0 else ()) for i, sample in enumerate(samples)]
    return np.concatenate(rows)


def lips_sheet(samples: Sequence[LipSample]) -> Image:
    """For every sample the animator's pictures, the generated ones, and the lips' opening in both over time."""
    parts: list[Image] = []
    for sample in samples:
        parts.append(_row(sample.performed, (f"animator: {sample.name}",)))
        parts.append(_row(sample.generated, ("generated",)))
        parts.append(opening_curves(sample.truth, sample.openings, sample.moments, width=parts[-1].shape[1]))
    return _stack(parts)


def likeness_sheet(poses: Sequence[Pose]) -> Image:
    """Pictures of the animator, and the generated ones of the same moments and poses below."""
    rows = []
    for start in range(0, len(poses), TILES_IN_A_ROW):
        some = poses[start : start + TILES_IN_A_ROW]
        rows.append(_row([pose.performed for pose in some], ("animator",)))
        rows.append(_row([pose.generated for pose in some], ("generated",)))
    return _stack(rows)


def moments_sheet(rows: Sequence[Sequence[Image]], heads: Sequence[str]) -> Image:
    """A row for every portrait: pictures at some moments, with a word over each column."""
    return np.concatenate([_row(row, heads if i == 0 else ()) for i, row in enumerate(rows)])


def opening_curves(truth: Track, openings: Track, moments: Sequence[int], *, width: int) -> Image:
    """Two tracks (F,) over time, the animator's in grey, the model's in red; ticks at `moments`."""
    panel = np.full((CURVE_HEIGHT_PX, width, 3), _PAPER, np.uint8)
    top = 1.05 * max(float(truth.max()), float(openings.max()), 1e-6)
    for moment in moments:
        x = _across(moment, len(truth), width)
        cv2.line(panel, (x, CURVE_HEIGHT_PX - 8), (x, CURVE_HEIGHT_PX), _INK, 1)
    for track, colour in ((truth, _TRUTH_COLOUR), (openings, _MODEL_COLOUR)):
        heights = (CURVE_HEIGHT_PX - 10) * (1 - track / top) + 2
        points = [(_across(i, len(track), width), round(float(y))) for i, y in enumerate(heights)]
        cv2.polylines(panel, [np.array(points, np.int32)], False, colour, 1, cv2.LINE_AA)
    _caption(panel, "opening: animator grey, generated red", _INK)
    return panel


def _across(index: int, count: int, width: int) -> int:
    """Column of the middle of tile `index`, were there `count` pictures over the width."""
    return round((index + 0.5) * (width - 1) / max(count, 1))


def _stack(parts: Sequence[Image]) -> Image:
    """Below one another, whatever their widths."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0))) for part in parts])


def _row(images: Sequence[Image], heads: Sequence[str]) -> Image:
    tiles = [np.asarray(cv2.resize(image, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA), np.uint8) for image in images]
    row = np.concatenate(tiles, axis=1)
    for i, head in enumerate(heads):
        _caption(row[:, i * TILE_PX :], head, (255, 255, 255))
    return row


def _caption(image: Image, text: str, colour: tuple[int, int, int]) -> None:
    place = (6, 16)
    if colour != _INK:
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
