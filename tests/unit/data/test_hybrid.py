from dataclasses import replace

import numpy as np
import pytest

from tests.unit.train.material import portraits
from vivavoz.data.hybrid import Face, _aligned, blend_faces


def face(index):
    people = portraits()
    return Face(people.images[index], people.landmarks[index])


def test_nothing_of_another_is_the_portrait_itself():
    same = blend_faces(face(0), face(1), skin=0.0, shape=0.0)
    assert np.array_equal(same.image, face(0).image)
    assert np.array_equal(same.landmarks, face(0).landmarks)


def test_ones_own_face_changes_nothing_to_speak_of():
    change = np.abs(blend_faces(face(0), face(0), skin=1.0, shape=0.0).image.astype(int) - face(0).image)
    assert np.median(change) == 0
    assert change.mean() < 1.5


@pytest.mark.parametrize("skin", [0.5, 1.0])
def test_only_the_face_changes_and_keeps_its_colour(skin):
    image, (x, y) = face(0).image, face(0).landmarks[:468, :2].T
    outside = np.ones(image.shape[:2], bool)
    outside[int(y.min()) : int(y.max()) + 1, int(x.min()) : int(x.max()) + 1] = False
    other = blend_faces(face(0), face(1), skin=skin, shape=0.0).image
    assert np.array_equal(other[outside], image[outside])
    assert (other != image).any()
    np.testing.assert_allclose(other[~outside].mean(0), image[~outside].mean(0), atol=4)


def test_the_shape_moves_picture_landmarks_and_matte_together():
    mine = face(0)
    x, y = np.round(mine.landmarks[152, :2]).astype(int)
    image, matte = np.zeros_like(mine.image), np.zeros(mine.image.shape[:2], np.uint8)
    image[y - 3 : y + 4, x - 3 : x + 4] = 255
    matte[y - 3 : y + 4, x - 3 : x + 4] = 255
    longer = mine.landmarks.copy()
    longer[152, 1] += 14
    moved = blend_faces(Face(image, mine.landmarks, matte), replace(face(0), landmarks=longer), skin=0.0, shape=1.0)
    assert moved.landmarks[152, 1] - mine.landmarks[152, 1] > 10
    for picture in (moved.image[..., 0], moved.matte):
        at = np.average(np.mgrid[:512, :512][0], weights=picture)
        assert abs(at + 0.5 - moved.landmarks[152, 1]) < 3


def test_lips_of_another_opening_keep_their_shape():
    parted = face(0).landmarks.copy()
    parted[14, 1] += 20
    same = blend_faces(face(0), replace(face(0), landmarks=parted), skin=0.0, shape=1.0)
    assert np.array_equal(same.landmarks, face(0).landmarks)


def test_alignment_undoes_turns_sizes_and_moves():
    points = face(0).landmarks
    turn = 1.3 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    turned = np.column_stack([points[:, :2] @ turn.T + (20, -9), 1.3 * points[:, 2] + 4]).astype(np.float32)
    np.testing.assert_allclose(_aligned(turned, points), points, atol=1e-2)
