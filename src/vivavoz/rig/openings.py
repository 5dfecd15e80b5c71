"""What shows between the lips and between the lids of a rendered frame."""

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.rig.mouth import Mouth, paint_mouth
from vivavoz.rig.smoothstep import smoothstep
from vivavoz.rig.warp import PORTRAIT_SIZE_PX, sample, soft_polygon

Floats: TypeAlias = NDArray[np.float32]
Affine: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Matrix (2, 2) and offset (2,) from the portrait to the frame, portrait coordinates."""


def smooth_loop(upper: NDArray[np.floating], lower: NDArray[np.floating]) -> NDArray[np.float64]:
    """A rounded closed outline through two curves (n, 2) that share both ends."""
    return np.concatenate([_spline(upper), _spline(lower)[-2:0:-1]])


def window(polygon: NDArray[np.floating], margin: int, size: int) -> tuple[slice, slice] | None:
    """Rows and columns of a picture around a polygon in its pixels; None if it lies outside."""
    x0, y0 = np.maximum(np.floor(polygon.min(0)).astype(int) - margin, 0)
    x1, y1 = np.minimum(np.ceil(polygon.max(0)).astype(int) + margin, size)
    return (slice(int(y0), int(y1)), slice(int(x0), int(x1))) if x1 > x0 and y1 > y0 else None


def back_to_portrait(rows: slice, columns: slice, size: int, rigid: Affine) -> Floats:
    """Portrait coordinates (h, w, 2) that a rigid plane brings to a window of a picture."""
    step = PORTRAIT_SIZE_PX / size
    x, y = np.meshgrid((np.arange(columns.start, columns.stop) + 0.5) * step, (np.arange(rows.start, rows.stop) + 0.5) * step)
    matrix, constant = rigid
    inverse = np.linalg.inv(matrix)
    offset = -inverse @ constant
    back = np.stack([inverse[0, 0] * x + inverse[0, 1] * y + offset[0], inverse[1, 0] * x + inverse[1, 1] * y + offset[1]], -1)
    return back.astype(np.float32)


def draw_eyeball(
    picture: Floats,
    source: Floats,
    portrait: NDArray[np.uint8],
    lids: tuple[NDArray[np.floating], NDArray[np.floating]],
    rigid: Affine,
    iris: NDArray[np.floating],
    iris_shift: NDArray[np.floating],
) -> None:
    """Show the portrait's eyeball, its iris shifted, between the lids, in place.

    `picture` (S, S, 3) and `source` (S, S, 2) are written. `lids` are upper and lower curve (n, 2) in pixels of the picture;
    `iris` (5, 2) and `iris_shift` (2,) are in portrait coordinates, before the head moves.
    """
    size = len(picture)
    loop = smooth_loop(*lids)
    where = window(loop, 2, size)
    if where is None:
        return
    rows, columns = where
    back = back_to_portrait(rows, columns, size, rigid)
    radius = float(np.linalg.norm(iris[1:] - iris[0], axis=1).mean())
    distance = np.linalg.norm(back - (iris[0] + iris_shift).astype(np.float32), axis=-1) / max(radius, 1.0)
    # The whole iris moves as one; the white around it gives way.
    share = 1 - smoothstep(1.1, 2.6, distance)
    back -= share[..., None] * iris_shift.astype(np.float32)
    alpha = soft_polygon(loop, (columns.start, rows.start), back.shape[:2]) * _openness(*lids, columns)
    picture[where] += alpha[..., None] * (sample(portrait, back, sharp=size > 256) - picture[where])
    upper, lower = lids
    scale = size / PORTRAIT_SIZE_PX
    closed = 1 - float(smoothstep(0.0, 3.0, (lower - upper)[:, 1].max() / scale))
    _draw_seam(picture[where], None, (upper + lower) / 2 - [columns.start, rows.start], 2.0 * scale, closed, 0.3)
    source[where] = np.where(alpha[..., None] > 0.5, back, source[where])


def draw_mouth(
    picture: Floats,
    source: Floats,
    mask: Floats,
    portrait: NDArray[np.uint8],
    lips: tuple[NDArray[np.floating], NDArray[np.floating]],
    mouth: Mouth,
    rigid: Affine,
    to_head: Affine,
    jaw_drop: float,
    tongue: float,
    face_px: float,
) -> None:
    """Paint the mouth's inside between the inner lips, in place.

    `picture` (S, S, 3), `source` (S, S, 2) and `mask` (S, S) are written. `lips` are upper and lower inner curve (n, 2) in
    pixels of the picture; `to_head` takes portrait coordinates to `paint_mouth`'s u and v; `face_px` is the face's height in
    pixels of the picture.
    """
    size = len(picture)
    upper, lower = lips
    loop = smooth_loop(upper, np.maximum(lower, upper * [0, 1]))
    where = window(loop, 3, size)
    if where is None:
        return
    rows, columns = where
    alpha = soft_polygon(loop, (columns.start, rows.start), (rows.stop - rows.start, columns.stop - columns.start))
    closed = 1 - float(smoothstep(0.0, 0.012, (lower - upper)[:, 1].max() / face_px))
    closed *= float(smoothstep(0.006, 0.02, mouth.parted))  # lips closed in the portrait have their own line
    middle = (upper + lower) / 2 - [columns.start, rows.start]
    _draw_seam(picture[where], mask[where], middle, 0.004 * face_px, closed, 0.55)
    alpha *= _openness(upper, lower, columns)
    if alpha.max() < 0.02:
        return
    back = back_to_portrait(rows, columns, size, rigid)
    matrix, constant = (part.astype(np.float32) for part in to_head)
    u = back[..., 0] * matrix[0, 0] + back[..., 1] * matrix[0, 1] + constant[0]
    v = back[..., 0] * matrix[1, 0] + back[..., 1] * matrix[1, 1] + constant[1]
    inside = paint_mouth(mouth, u, v, jaw_drop, tongue, 1.0 / face_px)
    # The lips shade what lies behind them: the upper one more, and a narrow opening more than a wide one.
    near = cv2.GaussianBlur(alpha, (0, 0), max(0.6, 0.014 * face_px))
    above = cv2.GaussianBlur(np.roll(alpha, max(1, round(0.010 * face_px)), 0), (0, 0), max(0.6, 0.010 * face_px))
    inside *= (0.62 + 0.38 * smoothstep(0.10, 0.70, near * 0.4 + above * 0.6))[..., None]
    inside = np.asarray(cv2.GaussianBlur(inside, (0, 0), 0.8 * size / PORTRAIT_SIZE_PX), np.float32)
    painted = alpha
    if mouth.seen is not None:
        shown = cv2.remap(mouth.seen, back - np.float32(0.5), np.empty(0), cv2.INTER_LINEAR)
        inside += shown[..., None] * (sample(portrait, back, sharp=size > 256) - inside)
        painted = alpha * (1 - shown)
        source[where] = np.where(((alpha > 0.5) & (shown > 0.5))[..., None], back, source[where])
    picture[where] += alpha[..., None] * (inside - picture[where])
    mask[where] = np.maximum(mask[where], painted)


def _openness(upper: NDArray[np.floating], lower: NDArray[np.floating], columns: slice) -> Floats:
    """Weight of each column of a window, (w,): 0 where two curves (n, 2) touch.

    A rasterised outline is never thinner than a line, but an opening that is shut must leave none.
    """
    order = np.argsort(upper[:, 0])
    apart = np.interp(np.arange(columns.start, columns.stop) + 0.5, upper[order, 0], np.maximum(lower - upper, 0)[order, 1])
    return np.asarray(np.clip((apart - 0.2) / 0.6, 0, 1), np.float32)


def _draw_seam(
    picture: Floats, mask: Floats | None, line: NDArray[np.floating], width_px: float, amount: float, dark: float
) -> None:
    """Smooth and darken the line along which two edges of skin meet, in place; `mask` (if any) learns of the darkening.

    The edges come from different places of the portrait, so that their bare meeting would show as a staircase of pixels.
    """
    if amount < 0.02:
        return
    drawn = np.zeros(picture.shape[:2], np.uint8)
    points = np.round((_spline(line) - 0.5) * 16).astype(np.int32)
    cv2.polylines(drawn, [points], False, 255, max(1, round(width_px)), cv2.LINE_AA, 4)
    near = cv2.dilate(drawn, np.ones((3, 3), np.uint8)).astype(np.float32)[..., None] * np.float32(amount / 255)
    picture += near * (cv2.GaussianBlur(picture, (0, 0), max(0.5, 0.45 * width_px)) - picture)
    shade = cv2.GaussianBlur(drawn, (0, 0), max(0.5, 0.7 * width_px)).astype(np.float32) * np.float32(amount * dark / 255)
    picture *= 1 - shade[..., None]
    if mask is not None:
        np.maximum(mask, shade, out=mask)


def _spline(points: NDArray[np.floating], parts: int = 4) -> NDArray[np.float64]:
    """Catmull-Rom curve through points (n, 2), ((n - 1) * parts + 1, 2)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    a, b, c, d = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    t = (np.arange(parts) / parts)[None, :, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])
