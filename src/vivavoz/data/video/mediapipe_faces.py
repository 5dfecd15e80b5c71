"""MediaPipe as the reader of faces: a detector for whole pictures, the face mesh for landmarks."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.data.video.faces import Landmarks
from vivavoz.media.image import Pixels
from vivavoz.rig.landmarks import face_mesh, mediapipe_solutions, quiet_stderr

_MAX_FACES: Final = 4
_REGION_PER_BOX: Final = 1.8
_MAX_SIDE_PX: Final = 512
_MIN_CONFIDENCE: Final = 0.5
_SHORT_RANGE, _FULL_RANGE = 0, 1


class MediaPipeFaces:
    """Finds faces with MediaPipe 0.10.21. Not to be shared between threads.

    Raises:
        DataError: MediaPipe is not installed.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        with quiet_stderr():
            detection = mediapipe_solutions().face_detection.FaceDetection
            # The full-range model sees a face across a room, the short-range one a face that fills the picture.
            self._detectors = tuple(
                self._stack.enter_context(detection(model_selection=reach, min_detection_confidence=_MIN_CONFIDENCE))
                for reach in (_FULL_RANGE, _SHORT_RANGE)
            )
            hands = mediapipe_solutions().hands.Hands
            self._hands = self._stack.enter_context(
                hands(static_image_mode=True, max_num_hands=2, model_complexity=0, min_detection_confidence=0.6)
            )
            for model in (*self._detectors, self._hands):
                model.process(np.zeros((64, 64, 3), np.uint8))  # models are loaded, and report themselves, with a picture
        self._find = self._stack.enter_context(face_mesh())

    def faces(self, image: Pixels) -> list[Landmarks]:
        """Landmarks of up to four faces of a picture `(H, W, 3)`, the surest first."""
        image = np.ascontiguousarray(image)
        for detector in self._detectors:
            detections = detector.process(image).detections or []
            found = [points for each in detections[:_MAX_FACES] if (points := self._landmarks(image, each)) is not None]
            if found:
                return found
        return []

    def follow(self, crops: Sequence[Pixels]) -> list[Landmarks | None]:
        """Landmarks in every one of successive crops; None where the face is lost."""
        # A mesh of its own for every clip: where it looks must not depend on the clip before.
        with face_mesh(video=True) as find:
            return [find(crop) for crop in crops]

    def hands(self, crop: Pixels) -> list[NDArray[np.float32]]:
        """Points (21, 2) of up to two hands, in pixels of the crop."""
        height, width = crop.shape[:2]
        found = self._hands.process(np.ascontiguousarray(crop)).multi_hand_landmarks or []
        return [np.array([(point.x * width, point.y * height) for point in hand.landmark], np.float32) for hand in found]

    def close(self) -> None:
        """Free the models."""
        self._stack.close()

    def _landmarks(self, image: Pixels, detection: object) -> Landmarks | None:
        box = detection.location_data.relative_bounding_box  # type: ignore[attr-defined]
        height, width = image.shape[:2]
        side = max(round(_REGION_PER_BOX * max(box.width * width, box.height * height)), 32)
        left = round((box.xmin + box.width / 2) * width - side / 2)
        top = round((box.ymin + box.height / 2) * height - side / 2)
        # A square that reaches over the edge is filled up, so that a face at the edge is seen whole.
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
        if x1 - x0 < 16 or y1 - y0 < 16:
            return None
        margins = (y0 - top, top + side - y1, x0 - left, left + side - x1)
        region = cv2.copyMakeBorder(image[y0:y1, x0:x1], *margins, cv2.BORDER_REPLICATE)
        scale = min(1.0, _MAX_SIDE_PX / side)
        if scale < 1:
            region = cv2.resize(region, (_MAX_SIDE_PX, _MAX_SIDE_PX), interpolation=cv2.INTER_AREA)
        points = self._find(np.asarray(region, np.uint8))
        return None if points is None else (points / np.float32(scale) + np.array([left, top, 0], np.float32))
