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

from vivavoz.errors import ConfigError, ImageError
from vivavoz.media.image import MIN_SIDE_PX, Pixels

CropMode = Literal["auto", "none"]

CROP_PER_FACE = 2.1
"""Side of the square crop, in sides of the face box."""

FACE_CENTRE = (0.5, 0.45)
"""Where the face box's centre lies in the crop (from the left, from the top), as fractions of its side."""

_WORKING_SIDE_PX = 384
_SMALLEST_FACE = 1 / 12  # of the working copy's shorter side
_SAME_SIZE = 0.6  # boxes whose sides differ more than this are not of the same face
_TILTS_DEG = (-15.0, 15.0, -30.0, 30.0)
_MIN_WEIGHT = 40
"""Raw detections that must stand behind a face. Of 170 portraits, 168 reach 60 at once; of what is no face hardly any."""


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


# Measured on photographs of faces: the median ratio of sides, and of what the centres lie apart, in sides.
_CASCADES = (
    _Cascade(name="haarcascade_frontalface_alt2", scale=1.0, shift_y=0.0),
    _Cascade(name="haarcascade_frontalface_alt", scale=1 / 1.004, shift_y=0.0),
    _Cascade(name="haarcascade_frontalface_default", scale=1 / 1.030, shift_y=-0.0026),
)


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
        ConfigError: another mode.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < MIN_SIDE_PX:
        raise ImageError(
            f"got an image of shape {image.shape} and type {image.dtype}; expected (H, W, 3) uint8 RGB, "
            f"no side below {MIN_SIDE_PX} pixels"
        )
    if mode not in ("auto", "none"):
        raise ConfigError(f"unknown crop mode {mode!r}; use 'auto' or 'none'")
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
    """Faces in an `(H, W, 3)` uint8 RGB image, roughly frontal ones, the largest first; empty if there is none.

    Works on a copy of one fixed size, so the same picture gives the same faces at any resolution. Ever more patient
    attempts follow one another until one sees a face: as it is, contrast evened out, smoothed, tilted, enlarged.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    scale = _WORKING_SIDE_PX / max(image.shape[:2])
    for faces in _attempts(grey, scale):
        if faces:
            return sorted(faces, key=lambda face: face.side, reverse=True)
    return []


def _attempts(grey: Pixels, scale: float) -> Iterator[list[FaceBox]]:
    """Lazily, the faces that each attempt on `grey` (H W uint8) sees, in its pixels; most work on it resized by `scale`."""
    copy = _resize(grey, scale)
    smallest = max(24, round(min(copy.shape) * _SMALLEST_FACE))
    yield _scaled(_vote(copy, smallest), 1 / scale)
    even = np.asarray(cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(copy), np.uint8)
    yield _scaled(_vote(even, smallest), 1 / scale)
    smooth = np.asarray(cv2.GaussianBlur(copy, (0, 0), 2.0), np.uint8)
    yield _scaled(_vote(smooth, smallest), 1 / scale)
    for degrees in _TILTS_DEG:
        yield _scaled(_vote_tilted(copy, smallest, degrees), 1 / scale)
    yield _scaled(_vote(_resize(grey, 3 * scale), smallest, 4 * smallest), 1 / (3 * scale))


def _vote(grey: Pixels, smallest: int, largest: int | None = None) -> list[FaceBox]:
    """Faces that all cascades see, and see often; the weighted mean of their boxes is steadier than any of them.

    The first cascade searches everywhere, the others only where it found something.
    """
    faces = []
    for box, weight in _detect(_CASCADES[0], grey, smallest, largest or min(grey.shape)):
        votes = [(box, weight)]
        left, top = (max(0, round(centre - box.side)) for centre in (box.centre_x, box.centre_y))
        around = grey[top : round(box.centre_y + box.side), left : round(box.centre_x + box.side)]
        for cascade in _CASCADES[1:]:
            agreeing = [
                (_moved(seen, left, top), times)
                for seen, times in _detect(cascade, around, round(_SAME_SIZE * box.side), round(box.side / _SAME_SIZE))
                if _same_face(_moved(seen, left, top), box)
            ]
            if not agreeing:
                break
            votes += agreeing
        else:
            if sum(times for _, times in votes) >= _MIN_WEIGHT:
                faces.append(_weighted_mean(votes))
    return faces


def _detect(cascade: _Cascade, grey: Pixels, smallest: int, largest: int) -> list[tuple[FaceBox, int]]:
    """What one cascade sees, as boxes on the common scale, and the number of raw detections behind each."""
    detector = cv2.CascadeClassifier(f"{cv2.data.haarcascades}{cascade.name}.xml")
    found = detector.detectMultiScale2(grey, 1.05, 4, minSize=(smallest, smallest), maxSize=(largest, largest))
    seen = []
    for (left, top, side_px, _), times in zip(*found, strict=True):
        side = float(side_px) * cascade.scale
        centre_y = float(top + 0.5 * side_px) + cascade.shift_y * side
        seen.append((FaceBox(centre_x=float(left + 0.5 * side_px), centre_y=centre_y, side=side), int(times)))
    return seen


def _vote_tilted(grey: Pixels, smallest: int, degrees: float) -> list[FaceBox]:
    """`_vote` on the picture turned by `degrees` about its centre; the boxes' centres are turned back."""
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turned = cv2.warpAffine(grey, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    back = cv2.invertAffineTransform(turn)
    faces = []
    for face in _vote(np.asarray(turned, np.uint8), smallest):
        x, y = back @ np.array([face.centre_x, face.centre_y, 1.0])
        faces.append(FaceBox(centre_x=float(x), centre_y=float(y), side=face.side))
    return faces


def _weighted_mean(votes: list[tuple[FaceBox, int]]) -> FaceBox:
    rows = [(box.centre_x, box.centre_y, box.side) for box, _ in votes]
    centre_x, centre_y, side = np.average(rows, axis=0, weights=[times for _, times in votes])
    return FaceBox(centre_x=float(centre_x), centre_y=float(centre_y), side=float(side))


def _same_face(a: FaceBox, b: FaceBox) -> bool:
    apart = math.hypot(a.centre_x - b.centre_x, a.centre_y - b.centre_y)
    return apart < 0.3 * min(a.side, b.side) and _SAME_SIZE < a.side / b.side < 1 / _SAME_SIZE


def _moved(face: FaceBox, x: float, y: float) -> FaceBox:
    return FaceBox(centre_x=face.centre_x + x, centre_y=face.centre_y + y, side=face.side)


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
