"""Portrait cropping: find the face, frame it as the model was trained to see it, resize.

`H W 3` images are uint8 RGB; boxes are in pixels of the image they were found in, the origin at its top left corner.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import cv2.data
import numpy as np
from numpy.typing import NDArray

from vivavoz.errors import ImageError

Pixels = NDArray[np.uint8]
CropMode = Literal["auto", "none"]

CROP_PER_FACE = 2.1
"""Side of the square crop, in sides of the face box."""

FACE_CENTRE = (0.5, 0.45)
"""Where the face box's centre lies in the crop (from the left, from the top), as fractions of its side."""

MIN_SIDE_PX = 64
"""Shortest side of a usable portrait."""

_WORKING_SIDE_PX = 512
_SMALLEST_FACE = 1 / 14
_TILTS_DEG = (-15.0, 15.0, -30.0, 30.0)


@dataclass(frozen=True, kw_only=True)
class FaceBox:
    """A square around a face from brow to chin: centre and side, in pixels."""

    centre_x: float
    centre_y: float
    side: float


@dataclass(frozen=True, kw_only=True)
class PortraitCrop:
    """A portrait as the model wants it."""

    image: Pixels
    """`(size, size, 3)` uint8 RGB."""

    box: tuple[int, int, int]
    """Left, top and side of the square that was cut from the original, in its pixels."""

    num_faces: int
    """Faces seen: 0 in mode `none`; with more than 1 the largest was taken."""


@dataclass(frozen=True, kw_only=True)
class _Cascade:
    """One of OpenCV's cascades and what turns its boxes into `frontalface_alt2`'s."""

    name: str
    scale: float
    shift_y: float


_FRONTAL = (
    _Cascade(name="haarcascade_frontalface_alt2", scale=1.0, shift_y=0.0),
    _Cascade(name="haarcascade_frontalface_alt", scale=1 / 1.004, shift_y=0.0),
    _Cascade(name="haarcascade_frontalface_default", scale=1 / 1.030, shift_y=-0.0026),
)
_PROFILE = _Cascade(name="haarcascade_profileface", scale=1 / 1.042, shift_y=0.025)


def crop_portrait(image: Pixels, mode: CropMode = "auto", size: int = 512) -> PortraitCrop:
    """Cut the square the model animates out of a photograph and resize it to `size` pixels.

    `auto` finds the largest face and frames it: a square of 2.1 sides of its box, the box's centre at (0.5, 0.45), moved
    and if need be shrunk to stay inside the image. `none` takes the largest centred square.

    Args:
        image: `(H, W, 3)` uint8 RGB, no side below 64 pixels.
        mode: `auto` or `none`.
        size: side of the result in pixels.

    Raises:
        ImageError: the array is no such image, or mode `auto` finds no face in it.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < MIN_SIDE_PX:
        raise ImageError(
            f"got an image of shape {image.shape} and type {image.dtype}; expected (H, W, 3) uint8 RGB, "
            f"no side below {MIN_SIDE_PX} pixels"
        )
    height, width = image.shape[:2]
    if mode == "none":
        side = min(height, width)
        return _cut(image, ((width - side) // 2, (height - side) // 2, side), size, num_faces=0)
    faces = find_faces(image)
    if not faces:
        raise ImageError(
            f"no face found in the {width}x{height} image; give a portrait with one clear, roughly frontal face, "
            "or use --crop none to take the centre square as it is"
        )
    return _cut(image, portrait_square(faces[0], width, height), size, num_faces=len(faces))


def portrait_square(face: FaceBox, width: int, height: int) -> tuple[int, int, int]:
    """Left, top and side of the square that frames `face` in an image of `width` by `height` pixels, all inside it."""
    side = min(round(CROP_PER_FACE * face.side), width, height)
    left = round(face.centre_x - FACE_CENTRE[0] * side)
    top = round(face.centre_y - FACE_CENTRE[1] * side)
    return min(max(left, 0), width - side), min(max(top, 0), height - side), side


def find_faces(image: Pixels) -> list[FaceBox]:
    """Faces in an `(H, W, 3)` uint8 RGB image, the largest first; empty if there is none.

    Works on a copy of one fixed size, so the same picture gives the same faces at any resolution. Ever more patient
    attempts follow one another until one sees a face: upright, contrast evened out, tilted, enlarged, in profile.
    """
    scale = _WORKING_SIDE_PX / max(image.shape[:2])
    grey = _resize(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8), scale)
    for faces in _attempts(grey):
        if faces:
            return sorted(_scaled(faces, 1 / scale), key=lambda face: face.side, reverse=True)
    return []


def _attempts(grey: Pixels) -> Iterator[list[FaceBox]]:
    """Lazily, the faces that each attempt sees, in pixels of `grey` (H W uint8)."""
    even = np.asarray(cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(grey), np.uint8)
    yield _vote(grey, _FRONTAL, min_votes=2)
    yield _vote(even, _FRONTAL, min_votes=2)
    for degrees in _TILTS_DEG:
        yield _vote_tilted(even, degrees)
    yield _scaled(_vote(_resize(even, 2.0), _FRONTAL, min_votes=2), 0.5)
    yield _vote(even, _FRONTAL[:2], min_votes=1)
    yield _vote(even, (_PROFILE,), min_votes=1)
    width = grey.shape[1]
    mirrored = _vote(np.ascontiguousarray(even[:, ::-1]), (_PROFILE,), min_votes=1)
    yield [FaceBox(centre_x=width - face.centre_x, centre_y=face.centre_y, side=face.side) for face in mirrored]


def _vote(grey: Pixels, cascades: tuple[_Cascade, ...], min_votes: int) -> list[FaceBox]:
    """Faces that at least `min_votes` of the cascades agree on; their boxes are averaged, which also steadies them."""
    smallest = max(24, round(min(grey.shape) * _SMALLEST_FACE))
    groups: list[list[FaceBox]] = []
    for cascade in cascades:
        detector = cv2.CascadeClassifier(f"{cv2.data.haarcascades}{cascade.name}.xml")
        for left, top, found_px, _ in detector.detectMultiScale(grey, 1.05, 4, minSize=(smallest, smallest)):
            side = float(found_px) * cascade.scale
            box = FaceBox(
                centre_x=float(left + 0.5 * found_px),
                centre_y=float(top + 0.5 * found_px) + cascade.shift_y * side,
                side=side,
            )
            group = next((group for group in groups if _same_face(group[0], box)), None)
            if group is None:
                groups.append([box])
            else:
                group.append(box)
    return [_mean_box(group) for group in groups if len(group) >= min_votes]


def _vote_tilted(grey: Pixels, degrees: float) -> list[FaceBox]:
    """`_vote` on the picture turned by `degrees` about its centre; the boxes' centres are turned back."""
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turned = cv2.warpAffine(grey, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    back = cv2.invertAffineTransform(turn)
    faces = []
    for face in _vote(np.asarray(turned, np.uint8), _FRONTAL, min_votes=2):
        x, y = back @ np.array([face.centre_x, face.centre_y, 1.0])
        faces.append(FaceBox(centre_x=float(x), centre_y=float(y), side=face.side))
    return faces


def _same_face(a: FaceBox, b: FaceBox) -> bool:
    apart = math.hypot(a.centre_x - b.centre_x, a.centre_y - b.centre_y)
    return apart < 0.3 * min(a.side, b.side) and 0.6 < a.side / b.side < 1 / 0.6


def _mean_box(boxes: list[FaceBox]) -> FaceBox:
    count = len(boxes)
    return FaceBox(
        centre_x=sum(box.centre_x for box in boxes) / count,
        centre_y=sum(box.centre_y for box in boxes) / count,
        side=sum(box.side for box in boxes) / count,
    )


def _scaled(faces: list[FaceBox], scale: float) -> list[FaceBox]:
    return [FaceBox(centre_x=f.centre_x * scale, centre_y=f.centre_y * scale, side=f.side * scale) for f in faces]


def _resize(image: Pixels, scale: float) -> Pixels:
    height, width = image.shape[:2]
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, target, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)


def _cut(image: Pixels, box: tuple[int, int, int], size: int, num_faces: int) -> PortraitCrop:
    left, top, side = box
    square = image[top : top + side, left : left + side]
    interpolation = cv2.INTER_AREA if size < side else cv2.INTER_CUBIC
    resized = np.ascontiguousarray(cv2.resize(square, (size, size), interpolation=interpolation), np.uint8)
    return PortraitCrop(image=resized, box=box, num_faces=num_faces)
