"""Where a portrait shows the person: a matte, (H, W) uint8, 255 on the person and soft at hair."""

from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.errors import DataError
from vivavoz.rig.landmarks import mediapipe_solutions, quiet_stderr

Matte: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]

_FULL: Final = np.uint8(255)


def person_matte(image: NDArray[np.uint8]) -> Matte:
    """Matte (H, W) of a portrait (H, W, 3) RGB, found by MediaPipe; without it 255 everywhere, which parts nothing."""
    try:
        mediapipe_solutions()
    except DataError:
        return np.full(image.shape[:2], _FULL)
    from mediapipe.python.solutions import selfie_segmentation

    with quiet_stderr(), selfie_segmentation.SelfieSegmentation(model_selection=0) as segment:
        rough = segment.process(np.ascontiguousarray(image)).segmentation_mask
    return refined(np.asarray(rough, np.float32), image)


def refined(rough: Floats, image: NDArray[np.uint8]) -> Matte:
    """A rough matte (H, W) in [0, 1], its edge drawn to the picture's by a guided filter (He et al., 2010)."""
    window = (image.shape[0] // 64 * 2 + 1,) * 2
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255

    def mean(values: NDArray[np.floating]) -> Floats:
        return np.asarray(cv2.blur(values, window), np.float32)

    of_grey, of_rough = mean(grey), mean(rough)
    slope = (mean(grey * rough) - of_grey * of_rough) / (mean(grey * grey) - of_grey**2 + np.float32(1e-3))
    guided = mean(slope) * grey + mean(of_rough - slope * of_grey)
    # The picture may move the edge, not invent one.
    near = np.clip(guided, rough - np.float32(0.5), rough + np.float32(0.5))
    return np.asarray(np.clip((near - 0.12) / 0.76, 0, 1) * _FULL + 0.5, np.uint8)
