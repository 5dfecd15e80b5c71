import numpy as np
import pytest

from tests.unit.train.material import portraits
from vivavoz.data.hybrid import blend_faces


def blended(share):
    people = portraits()
    return blend_faces(people.images[0], people.landmarks[0], people.images[1], people.landmarks[1], share)


def test_nothing_of_another_is_the_portrait_itself():
    assert np.array_equal(blended(0.0), portraits().images[0])


def test_ones_own_face_changes_nothing_to_speak_of():
    image, points = portraits().images[0], portraits().landmarks[0]
    own = blend_faces(image, points, image, points, 1.0)
    inner = np.abs(own.astype(int) - image)
    assert np.median(inner) == 0
    assert inner.mean() < 1.5


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_only_the_face_changes_and_keeps_its_colour(share):
    image, points = portraits().images[0], portraits().landmarks[0]
    x, y = points[:468, :2].T
    outside = np.ones(image.shape[:2], bool)
    outside[int(y.min()) : int(y.max()) + 1, int(x.min()) : int(x.max()) + 1] = False
    other = blended(share)
    assert np.array_equal(other[outside], image[outside])
    assert (other != image).any()
    np.testing.assert_allclose(other[~outside].mean(0), image[~outside].mean(0), atol=4)
