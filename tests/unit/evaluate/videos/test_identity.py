from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage.transform import SimilarityTransform

from tests.unit.evaluate.videos.material import talking_clip, write_face_network
from tests.unit.rig.test_rig import face_image, face_landmarks
from vivavoz.errors import WeightsError
from vivavoz.evaluate.faces import similarity
from vivavoz.evaluate.videos.identity import aligned_face, identity_similarity, load_recogniser


def test_the_transform_is_that_of_scikit_image():
    rng = np.random.default_rng(0)
    points, target = rng.uniform(0, 500, (5, 2)), rng.uniform(0, 112, (5, 2))
    np.testing.assert_allclose(
        similarity(points, target), SimilarityTransform.from_estimate(points, target).params[:2], atol=1e-9
    )


def test_a_turned_face_is_aligned_like_an_upright_one():
    points = face_landmarks()
    image = face_image(points)
    turn = cv2.getRotationMatrix2D((256, 256), 20, 0.8)
    turned = cv2.warpAffine(image, turn, (512, 512))
    moved = points.copy()
    moved[:, :2] = points[:, :2] @ turn[:, :2].T + turn[:, 2]
    upright, back = aligned_face(image, points), aligned_face(turned, moved)
    assert upright.shape == (112, 112, 3)
    assert np.abs(upright.astype(int) - back).mean() < 4
    assert np.abs(upright.astype(int) - aligned_face(turned, points)).mean() > 10


def test_features_are_those_of_the_network(tmp_path):
    weights = write_face_network(tmp_path / "face.onnx")
    recognise = load_recogniser(tmp_path / "face.onnx")
    clip = talking_clip(6)
    found = recognise(clip.frames[0], clip.points()[0])
    face = aligned_face(clip.frames[0], clip.points()[0]).astype(np.float64) / 127.5 - 1
    expected = (weights * face.transpose(2, 0, 1)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-4)


def test_the_same_face_is_the_same_person(tmp_path):
    write_face_network(tmp_path / "face.onnx")
    recognise = load_recogniser(tmp_path / "face.onnx")
    clip = talking_clip(6)
    assert identity_similarity(recognise, clip, clip) == pytest.approx(1, abs=1e-5)
    noise = np.random.default_rng(0).integers(0, 256, clip.frames.shape, dtype=np.uint8)
    assert identity_similarity(recognise, replace(clip, frames=noise), clip) < 0.8


def test_other_files_are_refused(tmp_path):
    (tmp_path / "face.onnx").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="face-recognition network"):
        load_recogniser(tmp_path / "face.onnx")
