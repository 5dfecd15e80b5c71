"""The 478 face landmarks: how to find them in a portrait, what they are called, and their mean layout.

Indices follow MediaPipe's face mesh (468 skin points, then five points per iris). Left and right are those of the picture,
not of the person. Coordinates: x to the right, y down, z away from the camera.
"""

import functools
import importlib.resources
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vivavoz.errors import DataError

NUM_LANDMARKS: Final = 478
NUM_SKIN_LANDMARKS: Final = 468

UPPER_INNER_LIP: Final = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER_LIP: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
UPPER_OUTER_LIP: Final = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_OUTER_LIP: Final = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
UPPER_LIP_RINGS: Final = (
    UPPER_INNER_LIP,
    (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292),
    (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306),
    UPPER_OUTER_LIP,
)
"""From the inner contour to the outer one, each from the left corner to the right one."""
LOWER_LIP_RINGS: Final = (
    LOWER_INNER_LIP,
    (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292),
    (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306),
    LOWER_OUTER_LIP,
)
INNER_LIPS: Final = UPPER_INNER_LIP + LOWER_INNER_LIP[-2:0:-1]
OUTER_LIPS: Final = UPPER_OUTER_LIP + LOWER_OUTER_LIP[-2:0:-1]

# fmt: off
OVAL: Final = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
"""The outline of the face, clockwise from the middle of the forehead."""
# fmt: on
CHIN: Final = (152, 175, 199, 200)
FOREHEAD_TOP: Final = 10
CHIN_TIP: Final = 152
NOSE_TIP: Final = 4

# Each lid from the outer to the inner corner, without the corners.
UPPER_LID_LEFT: Final = (246, 161, 160, 159, 158, 157, 173)
LOWER_LID_LEFT: Final = (7, 163, 144, 145, 153, 154, 155)
EYE_CORNERS_LEFT: Final = (33, 133)
UPPER_LID_RIGHT: Final = (466, 388, 387, 386, 385, 384, 398)
LOWER_LID_RIGHT: Final = (249, 390, 373, 374, 380, 381, 382)
EYE_CORNERS_RIGHT: Final = (263, 362)
EYE_LEFT: Final = (33, *UPPER_LID_LEFT, 133, *LOWER_LID_LEFT[::-1])
EYE_RIGHT: Final = (263, *UPPER_LID_RIGHT, 362, *LOWER_LID_RIGHT[::-1])
LID_CREASE_LEFT: Final = (247, 30, 29, 27, 28, 56, 190)
LID_CREASE_RIGHT: Final = (467, 260, 259, 257, 258, 286, 414)
UPPER_ORBIT_LEFT: Final = (113, 225, 224, 223, 222, 221, 189)
UPPER_ORBIT_RIGHT: Final = (342, 445, 444, 443, 442, 441, 413)
UNDER_LID_LEFT: Final = (25, 110, 24, 23, 22, 26, 112)
UNDER_LID_RIGHT: Final = (255, 339, 254, 253, 252, 256, 341)
LOWER_ORBIT_LEFT: Final = (226, 31, 228, 229, 230, 231, 232, 233)
LOWER_ORBIT_RIGHT: Final = (446, 261, 448, 449, 450, 451, 452, 453)
IRIS_LEFT: Final = (468, 469, 470, 471, 472)
"""The centre of the iris, then four points of its rim."""
IRIS_RIGHT: Final = (473, 474, 475, 476, 477)

# Each brow from the outer end to the inner one.
BROW_LEFT: Final = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
BROW_RIGHT: Final = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
FOREHEAD_MIDDLE: Final = (9, 151, 108, 337, 69, 299)

NOSE: Final = (1, 2, 4, 5, 6, 19, 94, 122, 168, 195, 197, 351, 48, 278, 64, 294, 98, 327, 97, 326, 115, 344, 220, 440)
CHEEK_LEFT: Final = (50, 205, 206, 187)
CHEEK_RIGHT: Final = (280, 425, 426, 411)
CHEEKBONES: Final = (116, 345, 117, 346, 111, 340, 227, 447)

STABLE_POINTS: Final = (
    *(10, 338, 297, 284, 109, 67, 54, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327),
    *(33, 133, 263, 362, 116, 345, 234, 454, 127, 356, 93, 323),
)
"""Points that move little with expression: the head's pose is estimated from them."""


@functools.cache
def _canonical() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    with importlib.resources.files("vivavoz.rig").joinpath("canonical_face.npz").open("rb") as file, np.load(file) as stored:
        points, triangles = stored["points"].astype(np.float32), stored["triangles"].astype(np.int64)
    points.setflags(write=False)
    triangles.setflags(write=False)
    return points, triangles


def canonical_points() -> NDArray[np.float32]:
    """Mean landmark layout, (478, 3): frontal, symmetric, face height (forehead to chin) 1, origin between eyes and nose."""
    return _canonical()[0]


@functools.cache
def mirrored_order() -> NDArray[np.int64]:
    """For every landmark, the one that is in its place in a mirrored picture, (478,)."""
    points = canonical_points()
    apart = np.linalg.norm(points[:, None] * np.array([-1, 1, 1], np.float32) - points[None], axis=2)
    order = apart.argmin(axis=1)
    order.setflags(write=False)
    return order


def canonical_triangles() -> NDArray[np.int64]:
    """Triangles over the 468 skin points, (N, 3), lips' and lids' openings included."""
    return _canonical()[1]


@contextmanager
def face_mesh(*, video: bool = False) -> Iterator[Callable[[NDArray[np.uint8]], NDArray[np.float32] | None]]:
    """Hand out MediaPipe's face mesh as a function: RGB image (H, W, 3) -> landmarks (478, 3) in pixels, None without a face.

    With `video` the images are successive pictures of one shot, and each search begins where the last face was.

    Raises:
        DataError: MediaPipe is not installed.
    """
    with quiet_stderr():
        mesh = mediapipe_solutions().face_mesh.FaceMesh(
            static_image_mode=not video, refine_landmarks=True, max_num_faces=1, min_detection_confidence=0.4
        )
        mesh.process(np.zeros((64, 64, 3), np.uint8))  # its models are loaded, and report themselves, with the first picture
    with mesh:
        noisy = True  # until the first face

        def find(image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
            nonlocal noisy
            with quiet_stderr() if noisy else nullcontext():
                faces = mesh.process(np.ascontiguousarray(image)).multi_face_landmarks
            noisy = noisy and not faces
            if not faces:
                return None
            height, width = image.shape[:2]
            points = np.array([(point.x, point.y, point.z) for point in faces[0].landmark], np.float32)
            return points * np.array([width, height, width], np.float32)

        yield find


def mediapipe_solutions() -> Any:
    """MediaPipe's `solutions` module.

    Raises:
        DataError: MediaPipe is not installed.
    """
    try:
        with quiet_stderr():
            from mediapipe.python import solutions
    except ImportError as error:
        raise DataError(
            "no MediaPipe to find landmarks with; expected version 0.10.21: pip install --no-deps mediapipe==0.10.21"
            " 'protobuf<5' absl-py attrs flatbuffers matplotlib, or pass landmarks of your own"
        ) from error
    return solutions


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drop what is written to the process's stderr: MediaPipe's libraries write there past Python and cannot be told not to."""
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def detect_landmarks(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Landmarks of the most prominent face of an RGB image, (478, 3) float32 in pixels (z in the unit of x).

    Raises:
        DataError: MediaPipe is not installed, or the image shows no face it can find.
    """
    with face_mesh() as find:
        points = find(image)
    if points is None:
        height, width = image.shape[:2]
        raise DataError(f"no face found in a {width} x {height} image; expected one frontal face, choose another portrait")
    return points
