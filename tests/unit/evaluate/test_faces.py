import numpy as np
import pytest

from tests.unit.rig.test_rig import face_image, face_landmarks
from vivavoz.errors import DataError
from vivavoz.evaluate.faces import align_face, follow_face, similarity


def test_lost_faces_lie_between_their_neighbours():
    a, b = face_landmarks(), face_landmarks(yaw=8)
    found = {0: None, 1: a, 2: None, 3: None, 4: b, 5: None}
    track = follow_face((np.full((4, 4, 3), i, np.uint8) for i in range(6)), lambda image: found[int(image[0, 0, 0])])
    assert np.array_equal(track[0], a)
    assert np.allclose(track[2], (2 * a + b) / 3, atol=1e-3)
    assert np.array_equal(track[5], b)
    with pytest.raises(DataError, match="no face"):
        follow_face([np.zeros((4, 4, 3), np.uint8)], lambda image: None)


def test_similarity_undoes_shift_turn_and_scale():
    points = np.random.default_rng(0).uniform(0, 100, (9, 2))
    turn = 1.7 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    moved = points @ turn.T + [5, -3]
    matrix = similarity(moved, points)
    assert np.allclose(moved @ matrix[:, :2].T + matrix[:, 2], points)


def test_aligned_faces_agree_wherever_they_were():
    straight, tipped = face_landmarks(), face_landmarks(roll=12)
    one, other = align_face(face_image(straight), straight), align_face(face_image(tipped), tipped)
    assert one.shape == (224, 224, 3)
    middle = np.s_[70:200, 60:164]  # skin is noise that stays with the picture: only what is drawn on it agrees
    alike = np.corrcoef(one[middle].ravel(), other[middle].ravel())[0, 1]
    unlike = np.corrcoef(one[middle].ravel(), face_image(tipped)[100:324, 144:368][middle].ravel())[0, 1]
    assert alike > 0.8
    assert alike > unlike + 0.2
