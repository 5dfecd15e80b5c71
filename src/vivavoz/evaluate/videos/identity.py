"""Whether it is still the same person: cosine of the features of a face-recognition network.

ArcFace (Deng et al. 2019) and its kin, as an ONNX file such as InsightFace's `w600k_r50.onnx`: faces of 112 x 112, aligned on
eyes, nose tip and corners of the mouth by a similarity transform, RGB scaled to [-1, 1].

Legend: T pictures, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.errors import WeightsError
from vivavoz.evaluate.faces import similarity
from vivavoz.evaluate.videos.clips import TalkingClip
from vivavoz.rig.landmarks import EYE_LEFT, EYE_RIGHT, NOSE_TIP

FACE_PX = 112
EVERY_FRAMES = 5
"""Every fifth picture is looked at."""
_TEMPLATE_PX = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""Where the two eyes, the nose and the two corners of the mouth come to lie."""
_MOUTH_CORNERS = (61, 291)


@dataclass(frozen=True, slots=True, eq=False)
class FaceRecogniser:
    """A network that gives a face's features."""

    network: Any

    def __call__(self, image: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.float32]:
        """Features (D,) of length 1 of the face with landmarks (478, 2 or 3) in a picture (H, W, 3) RGB."""
        face = aligned_face(image, landmarks)
        self.network.setInput(cv2.dnn.blobFromImage(face, scalefactor=1 / 127.5, mean=(127.5, 127.5, 127.5)))
        features = np.asarray(self.network.forward(), np.float32).ravel()
        return features / max(float(np.linalg.norm(features)), 1e-12)


def load_recogniser(path: Path) -> FaceRecogniser:
    """A face-recognition network from an ONNX file. Raises `WeightsError` where it cannot be read or used."""
    try:
        recogniser = FaceRecogniser(cv2.dnn.readNetFromONNX(str(path)))
        recogniser.network.setInput(np.zeros((1, 3, FACE_PX, FACE_PX), np.float32))
        recogniser.network.forward()
    except cv2.error as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{path} cannot be used ({reason}); expected a face-recognition network for 112 x 112 as ONNX"
        ) from error
    return recogniser


def aligned_face(image: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The face (112, 112, 3) of a picture, turned, scaled and shifted to where such networks expect it."""
    points = np.stack(
        [
            landmarks[list(EYE_LEFT), :2].mean(axis=0),
            landmarks[list(EYE_RIGHT), :2].mean(axis=0),
            landmarks[NOSE_TIP, :2],
            *landmarks[list(_MOUTH_CORNERS), :2],
        ]
    )
    to_face = similarity(points.astype(np.float64), np.array(_TEMPLATE_PX))
    return np.asarray(cv2.warpAffine(image, to_face, (FACE_PX, FACE_PX)), np.uint8)


def identity_similarity(recognise: FaceRecogniser, clip: TalkingClip, reference: TalkingClip) -> float:
    """Mean cosine between every fifth face of a clip and the first face of the reference, in [-1, 1]; 1 is the same picture.

    Raises:
        DataError: landmarks are missing.
    """
    known = recognise(reference.frames[0], reference.points()[0])
    points = clip.points()
    return float(np.mean([known @ recognise(clip.frames[i], points[i]) for i in range(0, clip.num_frames, EVERY_FRAMES)]))
