import cv2
import numpy as np
import pytest
import skimage.data

from tests.unit.data.video.material import marked_face
from tests.unit.rig.test_rig import face_landmarks
from vivavoz.data.video.measure import face_labels, measure, measure_heads, on_face, other_colours, sharpness

FACE = marked_face(256, 320, 90, 10)


def photograph():
    """The astronaut's face where `FACE` is."""
    side = 211
    left, top = 226 - side // 2, 148 - round(side * 320 / 512)
    return cv2.resize(skimage.data.astronaut()[top : top + side, left : left + side], (512, 512), interpolation=cv2.INTER_CUBIC)


def measured(crops=None, landmarks=None, lost=0.0, hands=None):
    landmarks = np.stack([FACE] * 10) if landmarks is None else landmarks
    crops = [photograph()] * len(landmarks) if crops is None else crops
    return measure(crops, landmarks, measure_heads(landmarks), lost, hands or [False] * len(range(0, len(crops), 5)))


def test_poses_are_those_of_the_head():
    landmarks = np.stack([face_landmarks(yaw=yaw) for yaw in np.linspace(-30, 30, 31)])
    assert measured(landmarks=landmarks).yaw_deg == pytest.approx(28, abs=2)
    poses = face_labels(landmarks, measure_heads(landmarks))["head_pose"]
    assert np.degrees(poses[[0, 15, 30], 0]) == pytest.approx([-30, 0, 30], abs=1.5)


def test_openings_are_in_face_heights_and_turn_with_the_head():
    landmarks = np.stack([marked_face(256, 300, 80, height) for height in (10.7, 20, 40)])
    heads = measure_heads(landmarks)
    openings = face_labels(landmarks, heads)["lip_shape"][:, 0]
    assert openings * heads[0].scale_px == pytest.approx([0, 9.3, 29.3], abs=0.4)


def test_a_lid_that_falls_is_a_blink_and_an_iris_that_moves_a_gaze():
    landmarks = np.stack([face_landmarks() for _ in range(20)])
    landmarks[10, [160, 159, 158], 1] = landmarks[10, [144, 145, 153], 1]
    width = np.linalg.norm(landmarks[0, 133] - landmarks[0, 33])
    landmarks[5, 468:478, 0] += 0.15 * width
    landmarks[6, 468:478, 1] -= 0.1 * width
    labels = face_labels(landmarks, measure_heads(landmarks))
    assert labels["blink"][10, 0] > 0.95
    assert labels["blink"][10, 1] < 0.1
    assert labels["blink"][0].max() < 0.1
    yaw, pitch = (labels["gaze"] - labels["gaze"][0]).T
    assert yaw[5] > 0.25
    assert pitch[6] > 0.15
    assert abs(pitch[5]) < 0.05
    assert all(values.dtype == np.float32 for values in labels.values())


def test_blur_takes_sharpness_away():
    sharp = photograph()
    values = [sharpness(np.asarray(cv2.GaussianBlur(sharp, (0, 0), sigma), np.uint8), FACE) for sigma in (0.5, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 4 * values[3]
    darker = sharpness((sharp * 0.4).astype(np.uint8), FACE)
    assert darker == pytest.approx(sharpness(sharp, FACE), rel=0.15)


def test_a_thing_before_the_face_is_seen_and_changing_light_is_not():
    crops = [photograph() for _ in range(9)]
    landmarks = np.stack([FACE] * 9)
    assert not other_colours(crops, landmarks).any()
    assert not other_colours(
        [(crop * light).astype(np.uint8) for crop, light in zip(crops, np.linspace(0.5, 1, 9), strict=True)], landmarks
    ).any()
    cv2.rectangle(crops[4], (150, 250), (360, 420), (20, 30, 160), -1)
    assert other_colours(crops, landmarks).tolist() == [index == 4 for index in range(9)]
    assert measured(crops=[crop for crop in crops for _ in range(5)], landmarks=np.stack([FACE] * 45)).covered == pytest.approx(
        1 / 9
    )


def test_a_hand_counts_where_it_lies_on_the_face():
    assert on_face(np.array([[10, 10], [256, 300]], np.float32), FACE)
    assert not on_face(np.array([[10, 10], [500, 500]], np.float32), FACE)
    assert measured(hands=[True, False]).covered == 0.5


def test_jumps_and_faces_beyond_the_edge():
    landmarks = np.stack([FACE] * 10)
    assert measured(landmarks=landmarks).jump == 0
    landmarks[5:, :, 0] += 200
    found = measured(landmarks=landmarks)
    assert found.jump == pytest.approx(200 / (found.face_height * 512))
    assert found.outside == 0.5
