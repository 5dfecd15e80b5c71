"""Warping a picture by a triangle mesh: which portrait pixel each pixel of a frame comes from.

Legend: `S` picture size, `V` vertices, `N` triangles. Portrait coordinates are continuous pixels of the 512 x 512 portrait.
"""

import dataclasses
import functools
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.rig import landmarks as lm
from vivavoz.rig.mesh import NUM_VERTICES, num_ring_triangles, opening_triangles, ring_points, triangles

PORTRAIT_SIZE_PX: Final = 512
_SUBPIXEL_BITS: Final = 4

Floats: TypeAlias = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class MeshWarp:
    """The warp of one frame."""

    source: Floats
    """Portrait coordinates each pixel comes from, (S, S, 2)."""
    uv: Floats
    """Place on the mean face, (uv_size, uv_size, 2) in [-1, 1], and a face mask, together (uv_size, uv_size, 3)."""


def portrait_mesh(landmarks: Floats) -> NDArray[np.float64]:
    """The mesh at rest, (V, 3), of a portrait with landmarks (478, 3) in pixels: its skin, and the rings around it."""
    skin = landmarks[: lm.NUM_SKIN_LANDMARKS].astype(np.float64)
    return np.concatenate([skin, ring_points(skin, reach=1.1 * PORTRAIT_SIZE_PX)])


def warp_mesh(moved: NDArray[np.float64], sampled: NDArray[np.float64], size: int, face_px: float, uv_size: int = 0) -> MeshWarp:
    """Warp that fills the moved mesh (V, 3) with the portrait at `sampled` (V, 2); nearer triangles hide farther ones.

    `face_px` is the height of the face in portrait pixels; `uv_size` the side of `uv`, 0 leaves it out.
    """
    mesh = triangles()
    scale = size / PORTRAIT_SIZE_PX
    corners = moved[:, :2][mesh].astype(np.float32)
    fixed = np.round((corners * scale - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    index = np.zeros((size, size), np.int32)
    order = _drawing_order(moved[:, 2][mesh].mean(1))
    edge = _lip_edge()
    grown = fixed[edge] + (fixed[edge] - fixed[edge].mean(1, keepdims=True).astype(np.int32)) // 2
    # Lips first reach a little into the opening, so that its soft edge finds lip, not what the portrait shows between them.
    begin = num_ring_triangles() + int(opening_triangles().sum())
    drawn = np.concatenate([order[:begin], edge, order[begin:]]).tolist()
    for number, triangle in zip(drawn, np.concatenate([fixed[order[:begin]], grown, fixed[order[begin:]]]), strict=True):
        cv2.fillConvexPoly(index, triangle, number, cv2.LINE_8, _SUBPIXEL_BITS)
    values = np.concatenate([sampled, _canonical_places()], 1) if uv_size else sampled
    maps = _affine_maps(corners, values[mesh].astype(np.float32), 2 / scale**2)
    source = _smooth_facets(_evaluate(maps[:, :2], index), moved, face_px)
    return MeshWarp(source, _canonical_map(maps[:, 2:], index, uv_size))


def backward_flow(source: Floats, flow_size: int) -> Floats:
    """Backward flow (flow_size, flow_size, 2) in [-1, 1] units of a map (S, S, 2) to portrait coordinates."""
    if not flow_size:
        return np.zeros((0, 0, 2), np.float32)
    small = source
    if len(source) != flow_size:
        small = np.asarray(cv2.resize(source, (flow_size, flow_size), interpolation=cv2.INTER_AREA), np.float32)
        # Where lips or lids meet the map jumps: a mean of both sides would point at what lies between them.
        near = cv2.resize(source, (flow_size, flow_size), interpolation=cv2.INTER_NEAREST)
        small = np.where((np.abs(near - small) > 0.02 * PORTRAIT_SIZE_PX).any(2, keepdims=True), near, small)
    return np.asarray((small - pixel_centres(flow_size)) * np.float32(2 / PORTRAIT_SIZE_PX))


@functools.lru_cache(maxsize=8)
def pixel_centres(size: int) -> Floats:
    """Portrait coordinates of the pixel centres of a picture, (size, size, 2)."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(PORTRAIT_SIZE_PX / size)
    result = np.stack(np.meshgrid(centres, centres), -1)
    result.setflags(write=False)
    return result


def sample(portrait: NDArray[np.uint8], source: Floats, sharp: bool) -> Floats:
    """Portrait colours at portrait coordinates (h, w, 2), float32 (h, w, 3) in [0, 255].

    `sharp` interpolates cubically: needed where the portrait holds detail of a single pixel.
    """
    kind = cv2.INTER_CUBIC if sharp else cv2.INTER_LINEAR
    warped = cv2.remap(portrait, source - np.float32(0.5), np.empty(0), kind, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, np.float32)


def soft_polygon(polygon: NDArray[np.floating], origin: tuple[int, int], shape: tuple[int, int]) -> Floats:
    """How much of each pixel a polygon (n, 2) covers, (h, w) in [0, 1], in a window with its corner at `origin` (x, y)."""
    fine = 4
    height, width = shape
    mask = np.zeros((height * fine, width * fine), np.uint8)
    points = np.round(((polygon - np.array(origin)) * fine - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)


def _drawing_order(depth: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rings from the outermost, then the openings (seen only where skin leaves room), then skin from far to near."""
    behind, skin = _static_order()
    return np.concatenate([behind, skin[np.argsort(-depth[skin], kind="stable")]])


@functools.cache
def _lip_edge() -> NDArray[np.int64]:
    """Triangles of the lips that border on the opening."""
    on_edge = np.isin(triangles(), lm.INNER_LIPS).sum(1) >= 1
    in_lips = np.isin(triangles(), [i for ring in (*lm.UPPER_LIP_RINGS[:2], *lm.LOWER_LIP_RINGS[:2]) for i in ring]).all(1)
    return np.flatnonzero(on_edge & in_lips & ~opening_triangles())


@functools.cache
def _static_order() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rings = np.arange(num_ring_triangles())
    openings = np.flatnonzero(opening_triangles())
    skin = np.setdiff1d(np.arange(len(rings), len(triangles())), openings)
    return np.concatenate([rings, openings]), skin


def _affine_maps(frame: Floats, values: Floats, area_floor: float) -> Floats:
    """Affine map of each triangle, (N, K, 3), from frame coordinates (N, 3, 2) to values (N, 3, K) at its corners.

    Where a triangle has collapsed below `area_floor` the map is levelled, as its pixels lie partly outside it.
    """
    frame_mean, value_mean = frame.mean(1), values.mean(1)
    a, b = frame - frame_mean[:, None], values - value_mean[:, None]
    x, y = a[..., 0], a[..., 1]
    area = np.abs((x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])) / 2
    level = np.maximum(area_floor - area, 0) * 0.5 + 1e-6
    xx, yy, xy = (x * x).sum(1) + level, (y * y).sum(1) + level, (x * y).sum(1)
    inverse = np.stack([yy, -xy, -xy, xx], 1).reshape(-1, 2, 2) / (xx * yy - xy * xy)[:, None, None]
    linear = b.transpose(0, 2, 1) @ a @ inverse
    constant = value_mean - (linear @ frame_mean[..., None])[..., 0]
    return np.concatenate([linear, constant[..., None]], 2)


def _evaluate(maps: Floats, index: NDArray[np.int32]) -> Floats:
    """Values (size, size, 2) of the maps (N, 2, 3) that `index` (size, size) names, at the pixels' centres."""
    size = len(index)
    centres = pixel_centres(size)[0, :, 0]
    pick = index.astype(np.intp)
    # Both values are fetched as one number of eight bytes.
    x_share, y_share, value = (
        np.ascontiguousarray(maps[..., k]).view(np.complex64)[:, 0].take(pick, mode="clip").view(np.float32) for k in range(3)
    )
    x_share *= np.repeat(centres, 2)
    y_share *= centres[:, None]
    x_share += y_share
    value += x_share
    return np.asarray(value.reshape(size, size, 2))


def _smooth_facets(source: Floats, moved: NDArray[np.float64], face_px: float) -> Floats:
    """Blur the displacement, so that no triangle shows, but not at the lips and lids."""
    size = len(source)
    scale = size / PORTRAIT_SIZE_PX
    displacement = source - pixel_centres(size)
    radius = max(1, round(face_px * scale * 0.012))
    kernel = (2 * radius + 1, 2 * radius + 1)
    once = cv2.blur(displacement, kernel, borderType=cv2.BORDER_REPLICATE)
    smooth = np.asarray(cv2.blur(once, kernel, borderType=cv2.BORDER_REPLICATE), np.float32)
    for loop in (lm.OUTER_LIPS, lm.EYE_LEFT, lm.EYE_RIGHT):
        polygon = np.round(moved[list(loop), :2] * scale).astype(np.int32)
        low = np.clip(polygon.min(0) - 3 * radius, 0, size)
        high = np.clip(polygon.max(0) + 3 * radius + 1, 0, size)
        if (high <= low).any():
            continue
        where = (slice(low[1], high[1]), slice(low[0], high[0]))
        sharp = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(sharp, [polygon - low], 255)
        cv2.polylines(sharp, [polygon - low], True, 255, 2 * radius + 1)
        keep = cv2.blur(sharp, kernel)[..., None].astype(np.float32) / 255
        smooth[where] += keep * (displacement[where] - smooth[where])
    return smooth + pixel_centres(size)


def _canonical_map(maps: Floats, index: NDArray[np.int32], uv_size: int) -> Floats:
    if not uv_size:
        return np.zeros((0, 0, 3), np.float32)
    pick = ((np.arange(uv_size) + 0.5) * (len(index) / uv_size)).astype(np.int64)
    small = index[pick[:, None], pick]
    on_face = (small >= num_ring_triangles()).astype(np.float32)[..., None]
    return np.concatenate([np.clip(_evaluate(maps, small), -1, 1) * on_face, on_face], 2)


@functools.cache
def _canonical_places() -> NDArray[np.float64]:
    """Mean place of each vertex, (V, 2), scaled to [-1, 1] over the face; 0 for the rings."""
    points = lm.canonical_points()[: lm.NUM_SKIN_LANDMARKS, :2].astype(np.float64)
    low, high = points.min(0), points.max(0)
    places = np.zeros((NUM_VERTICES, 2))
    places[: lm.NUM_SKIN_LANDMARKS] = (points - (low + high) / 2) / ((high - low) / 2)
    return places
