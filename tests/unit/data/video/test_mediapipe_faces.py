"""The real reader of faces, where MediaPipe is installed."""

import cv2
import numpy as np
import pytest
import skimage.data

from vivavoz.data.video.faces import Face
from vivavoz.data.video.mediapipe_faces import MediaPipeFaces
from vivavoz.media.crop import find_faces, portrait_square
from vivavoz.rig.landmarks import detect_landmarks

pytest.importorskip("mediapipe")


@pytest.fixture(scope="module")
def reader():
    reader = MediaPipeFaces()
    yield reader
    reader.close()


def test_clips_are_framed_as_portraits_are(reader):
    photograph = skimage.data.astronaut()
    (expected,) = find_faces(photograph)
    (points,) = reader.faces(photograph)
    box = Face.of(points).box
    # On most photographs they agree within 4 %; of this smile the cascades see less.
    assert box.side == pytest.approx(expected.side, rel=0.2)
    assert (box.centre_x, box.centre_y) == pytest.approx((expected.centre_x, expected.centre_y), abs=0.1 * expected.side)
    ours, theirs = portrait_square(box, 512, 512), portrait_square(expected, 512, 512)
    assert np.abs(np.subtract(ours, theirs)).max() < 0.2 * theirs[2]


def test_small_faces_and_faces_at_the_edge_are_found(reader):
    room = np.full((540, 960, 3), 90, np.uint8)
    room[200:350, 500:650] = cv2.resize(skimage.data.astronaut()[:300, 70:370], (150, 150), interpolation=cv2.INTER_AREA)
    (points,) = reader.faces(room)
    x, y = points[:, :2].mean(0)
    assert 540 < x < 610
    assert 230 < y < 300
    assert reader.faces(np.full((200, 200, 3), 90, np.uint8)) == []
    assert reader.faces(np.ascontiguousarray(skimage.data.astronaut()[:, 200:])) != []


def test_the_same_clip_gives_the_same_landmarks_whatever_came_before(reader):
    crop = cv2.resize(skimage.data.astronaut()[10:240, 110:340], (512, 512), interpolation=cv2.INTER_CUBIC)
    clip = [np.roll(crop, shift, axis=1) for shift in (0, 4, 8, 12)]
    first = reader.follow(clip)
    reader.follow([np.roll(crop, -60, axis=0)] * 2)
    again = reader.follow(clip)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    noses = [points[4, 0] for points in first]
    assert np.diff(noses) == pytest.approx([4, 4, 4], abs=1.5)
    assert reader.follow([np.zeros_like(crop)]) == [None]
    assert reader.hands(crop) == []


def test_nothing_is_written_to_stderr(capfd):
    detect_landmarks(skimage.data.astronaut())
    reader = MediaPipeFaces()
    reader.faces(skimage.data.astronaut())
    reader.close()
    assert capfd.readouterr().err == ""
