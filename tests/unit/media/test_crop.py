import cv2
import numpy as np
import pytest
import skimage.data

from vivavoz.errors import ConfigError, ImageError
from vivavoz.media.crop import CROP_PER_FACE, FACE_CENTRE, FaceBox, crop_portrait, find_faces, portrait_square

# Read off the photograph by eye: between the eyes and the nose, and the span from brow to chin.
FACE = FaceBox(centre_x=224, centre_y=114, side=98)


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


def assert_close(face, expected, tolerance=0.06):
    assert abs(face.centre_x - expected.centre_x) < tolerance * expected.side
    assert abs(face.centre_y - expected.centre_y) < tolerance * expected.side
    assert abs(face.side - expected.side) < tolerance * expected.side


def moved(face, scale=1.0, x=0.0, y=0.0):
    return FaceBox(centre_x=face.centre_x * scale + x, centre_y=face.centre_y * scale + y, side=face.side * scale)


def test_the_framing(astronaut):
    crop = crop_portrait(astronaut, size=256)
    left, top, side = crop.box
    assert crop.num_faces == 1
    assert crop.image.shape == (256, 256, 3)
    assert crop.image.dtype == np.uint8
    assert crop.image.flags.c_contiguous
    assert abs(side - 2.1 * FACE.side) < 8
    assert abs(FACE.centre_x - left - 0.5 * side) < 6
    assert abs(FACE.centre_y - top - 0.45 * side) < 6
    expected = cv2.resize(astronaut[top : top + side, left : left + side], (256, 256), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(crop.image, expected)


@pytest.mark.parametrize("scale", [0.6, 1.7, 3.0])
def test_resolution_does_not_matter(astronaut, scale):
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=interpolation)
    assert_close(find_faces(resized)[0], moved(FACE, scale))


def test_framing_is_steady_when_the_picture_is_shifted(astronaut):
    faces = [find_faces(astronaut[y:, x:])[0] for x, y in ((0, 0), (7, 3), (31, 12))]
    for face, (x, y) in zip(faces, ((0, 0), (7, 3), (31, 12)), strict=True):
        assert_close(moved(face, x=x, y=y), faces[0], tolerance=0.03)


def test_hard_light(astronaut):
    dark = (astronaut * 0.12).astype(np.uint8)
    assert_close(find_faces(dark)[0], FACE, tolerance=0.1)


@pytest.mark.parametrize("degrees", [-28, 22])
def test_tilted_heads(astronaut, degrees):
    turn = cv2.getRotationMatrix2D((FACE.centre_x, FACE.centre_y), degrees, 1.0)
    tilted = cv2.warpAffine(astronaut, turn, (512, 512), borderMode=cv2.BORDER_REFLECT)
    assert_close(find_faces(tilted)[0], FACE, tolerance=0.15)


def test_a_small_face_in_a_large_picture(astronaut):
    large = np.full((2400, 3600, 3), 90, np.uint8)
    large[900:1412, 2000:2512] = astronaut
    assert_close(find_faces(large)[0], moved(FACE, x=2000, y=900), tolerance=0.15)


def test_the_largest_face_is_taken(astronaut):
    smaller = cv2.resize(astronaut, (400, 400), interpolation=cv2.INTER_AREA)
    both = np.full((512, 912, 3), 128, np.uint8)
    both[:400, :400] = smaller
    both[:, 400:] = astronaut
    crop = crop_portrait(both, size=64)
    assert crop.num_faces == 2
    assert abs(crop.box[0] + crop.box[2] / 2 - (400 + FACE.centre_x)) < 8


def test_no_face():
    rows, columns = np.mgrid[0:200, 0:300]
    plain = np.stack([rows, columns // 2, rows // 2], -1).astype(np.uint8)
    with pytest.raises(ImageError, match="--crop none") as caught:
        crop_portrait(plain)
    assert "300x200" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mode_none_takes_the_centre():
    rows, columns = np.mgrid[0:100, 0:160]
    image = np.stack([rows, columns, rows], -1).astype(np.uint8)
    crop = crop_portrait(image, mode="none", size=100)
    assert crop.box == (30, 0, 100)
    assert crop.num_faces == 0
    assert np.array_equal(crop.image, image[:, 30:130])
    assert crop_portrait(np.ascontiguousarray(image.swapaxes(0, 1)), mode="none", size=100).box == (0, 30, 100)


@pytest.mark.parametrize("corner", [(20, 20), (780, 20), (20, 580), (780, 580), (400, 300)])
@pytest.mark.parametrize("side", [40, 250, 500])
def test_squares_stay_inside(corner, side):
    left, top, square = portrait_square(FaceBox(centre_x=corner[0], centre_y=corner[1], side=side), 800, 600)
    assert square == min(round(CROP_PER_FACE * side), 600)
    assert 0 <= left <= 800 - square
    assert 0 <= top <= 600 - square


def test_squares_frame_the_face_where_there_is_room():
    left, top, side = portrait_square(FaceBox(centre_x=400, centre_y=300, side=100), 800, 600)
    assert side == 210
    assert (left, top) == (400 - 105, round(300 - 0.45 * 210))
    assert FACE_CENTRE == (0.5, 0.45)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((100, 100), np.uint8),
        np.zeros((100, 100, 4), np.uint8),
        np.zeros((100, 100, 3)),
        np.zeros((63, 100, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ImageError, match="expected"):
        crop_portrait(image)


def test_other_modes_are_refused():
    with pytest.raises(ConfigError, match="'auto' or 'none'"):
        crop_portrait(np.zeros((100, 100, 3), np.uint8), mode="middle")
