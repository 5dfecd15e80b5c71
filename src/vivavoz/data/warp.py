"""Warping a picture by a triangle mesh: which portrait pixel each pixel of a frame comes from.

Legend: `S` picture size, `V` vertices, `N` triangles. Portrait coordinates are continuous pixels of the 512 x 512 portrait.
"""

import dataclasses
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.data import landmarks as lm
from vivavoz.data.rig_mesh import num_ring_triangles, opening_triangles, triangles

PORTRAIT_SIZE_PX: Final = 512
_SUBPIXEL_BITS: Final = 4

Floats: TypeAlias = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class MeshWarp:
    """The warp of one frame."""

    triangle: NDArray[np.int32]
    """Index of the triangle each pixel lies in, (S, S)."""
    frame_vertices: NDArray[np.float64]
    """Vertices in the frame, (V, 2), portrait coordinates."""
    source: Floats
    """Portrait coordinates each pixel comes from, (S, S, 2)."""

    @classmethod
    def build(cls, moved: NDArray[np.float64], rest: NDArray[np.float64], size: int, scale_px: float) -> "MeshWarp":
        """Warp that takes the mesh at rest (V, 3) to the moved one (V, 3); nearer triangles hide farther ones."""
        mesh = triangles()
        scale = size / PORTRAIT_SIZE_PX
        corners = moved[:, :2][mesh]
        fixed = np.round((corners * scale - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        index = np.zeros((size, size), np.int32)
        for number in _drawing_order(moved[:, 2][mesh].mean(1)):
            cv2.fillConvexPoly(index, fixed[number], int(number), cv2.LINE_8, _SUBPIXEL_BITS)
        maps = _affine_maps(corners, rest[:, :2][mesh], area_floor=2.0 / scale**2)
        source = _evaluate(maps, index, size)
        return cls(index, moved[:, :2], _smooth_facets(source, moved, size, scale_px * scale))

    def sample(self, portrait: NDArray[np.uint8]) -> Floats:
        """The warped picture, (S, S, 3) float32 in [0, 255]."""
        return sample(portrait, self.source)

    def flow(self, source: Floats, flow_size: int) -> Floats:
        """Backward flow (flow_size, flow_size, 2) in [-1, 1] units of a map like `self.source`."""
        small = source if len(source) == flow_size else cv2.resize(source, (flow_size, flow_size), interpolation=cv2.INTER_AREA)
        return np.asarray((small - pixel_centres(flow_size)) * np.float32(2 / PORTRAIT_SIZE_PX))

    def canonical(self, flow_size: int) -> Floats:
        """Place on the mean face and face mask, (flow_size, flow_size, 3)."""
        step = len(self.triangle) / flow_size
        pick = ((np.arange(flow_size) + 0.5) * step).astype(np.int64)
        index = self.triangle[pick[:, None], pick]
        on_face = (index >= num_ring_triangles()).astype(np.float32)
        places = np.zeros((len(self.frame_vertices), 2), np.float64)
        places[: lm.NUM_SKIN_LANDMARKS] = _canonical_places()
        mesh = triangles()
        maps = _affine_maps(self.frame_vertices[mesh], places[mesh], area_floor=2.0)
        uv = np.clip(_evaluate(maps, index, flow_size), -1, 1) * on_face[..., None]
        return np.concatenate([uv, on_face[..., None]], 2)


def pixel_centres(size: int) -> Floats:
    """Portrait coordinates of the pixel centres of a picture, (size, size, 2)."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(PORTRAIT_SIZE_PX / size)
    return np.stack(np.meshgrid(centres, centres), -1)


def sample(portrait: NDArray[np.uint8], source: Floats) -> Floats:
    """Portrait colours at portrait coordinates (h, w, 2), float32 (h, w, 3) in [0, 255]."""
    warped = cv2.remap(portrait, source - np.float32(0.5), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, np.float32)


def soft_polygon(polygon: NDArray[np.floating], origin: tuple[int, int], shape: tuple[int, int]) -> Floats:
    """How much of each pixel a polygon (n, 2) covers, (h, w) in [0, 1], in a window with its corner at `origin` (x, y)."""
    fine = 4
    height, width = shape
    mask = np.zeros((height * fine, width * fine), np.uint8)
    points = np.round(((polygon - np.array(origin)) * fine - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _drawing_order(depth: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rings from the outermost, then the openings (seen only where skin leaves room), then skin from far to near."""
    rings = num_ring_triangles()
    openings = np.flatnonzero(opening_triangles())
    skin = np.setdiff1d(np.arange(rings, len(depth)), openings)
    return np.concatenate([np.arange(rings), openings, skin[np.argsort(-depth[skin], kind="stable")]])


def _affine_maps(frame: NDArray[np.float64], source: NDArray[np.float64], area_floor: float) -> Floats:
    """Affine map of each triangle (N, 2, 3) from frame to source coordinates; gentle where a triangle has collapsed."""
    frame_mean, source_mean = frame.mean(1), source.mean(1)
    a, b = frame - frame_mean[:, None], source - source_mean[:, None]
    moment = np.einsum("nki,nkj->nij", a, a)
    area = (
        np.abs(
            (frame[:, 1, 0] - frame[:, 0, 0]) * (frame[:, 2, 1] - frame[:, 0, 1])
            - (frame[:, 1, 1] - frame[:, 0, 1]) * (frame[:, 2, 0] - frame[:, 0, 0])
        )
        / 2
    )
    moment += (np.maximum(area_floor - area, 0) * 0.5 + 1e-9)[:, None, None] * np.eye(2)
    determinant = moment[:, 0, 0] * moment[:, 1, 1] - moment[:, 0, 1] ** 2
    inverse = np.stack([moment[:, 1, 1], -moment[:, 0, 1], -moment[:, 1, 0], moment[:, 0, 0]], 1).reshape(-1, 2, 2)
    linear = np.einsum("nki,nkj->nij", b, a) @ (inverse / determinant[:, None, None])
    constant = source_mean - np.einsum("nij,nj->ni", linear, frame_mean)
    return np.concatenate([linear, constant[..., None]], 2).astype(np.float32)


def _evaluate(maps: Floats, index: NDArray[np.int32], size: int) -> Floats:
    centres = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(PORTRAIT_SIZE_PX / size)
    x, y = centres[None, :], centres[:, None]
    result = np.empty((size, size, 2), np.float32)
    for axis in (0, 1):
        a, b, c = (np.ascontiguousarray(maps[:, axis, k]).take(index) for k in range(3))
        result[..., axis] = a * x + b * y + c
    return result


def _smooth_facets(source: Floats, moved: NDArray[np.float64], size: int, face_px: float) -> Floats:
    """Blur the displacement, so that no triangle shows, but not at the lips and lids."""
    displacement = source - pixel_centres(size)
    radius = max(1, round(face_px * 0.012))
    kernel = (2 * radius + 1, 2 * radius + 1)
    smooth = cv2.blur(cv2.blur(displacement, kernel, borderType=cv2.BORDER_REPLICATE), kernel, borderType=cv2.BORDER_REPLICATE)
    sharp = np.zeros((size, size), np.uint8)
    scale = size / PORTRAIT_SIZE_PX
    for loop in (lm.OUTER_LIPS, lm.EYE_LEFT, lm.EYE_RIGHT):
        polygon = np.round(moved[list(loop), :2] * scale).astype(np.int32)
        cv2.fillPoly(sharp, [polygon], 255)
        cv2.polylines(sharp, [polygon], True, 255, 2 * radius + 1)
    keep = cv2.blur(sharp, kernel)[..., None].astype(np.float32) / 255
    return np.asarray(pixel_centres(size) + smooth + keep * (displacement - smooth))


def _canonical_places() -> NDArray[np.float64]:
    points = lm.canonical_points()[: lm.NUM_SKIN_LANDMARKS, :2].astype(np.float64)
    low, high = points.min(0), points.max(0)
    return (points - (low + high) / 2) / ((high - low) / 2)
