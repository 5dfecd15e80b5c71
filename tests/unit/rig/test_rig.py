import functools
import itertools

import cv2
import numpy as np
import pytest
import torch

from vivavoz.errors import DataError
from vivavoz.rig import landmarks as lm
from vivavoz.rig.head_pose import angles, fit_head, rotation
from vivavoz.rig.labels import LABELS
from vivavoz.rig.mesh import NUM_VERTICES, opening_triangles, triangles
from vivavoz.rig.motion import MOTION, Motion
from vivavoz.rig.rig import Rig

FACE_PX = 235.0


def face_landmarks(yaw=0.0, pitch=0.0, roll=0.0, gap=0.0):
    """The mean face in the picture, its lips `gap` face heights apart."""
    points = lm.canonical_points().astype(np.float64).copy()
    upper, lower = list(lm.UPPER_INNER_LIP), list(lm.LOWER_INNER_LIP)
    shape = 1 - (points[upper, 0] / np.abs(points[upper, 0]).max()) ** 2
    middle = (points[upper, 1] + points[lower, 1]) / 2
    points[upper, 1], points[lower, 1] = middle - gap / 2 * shape, middle + gap / 2 * shape
    return (points @ rotation(yaw, pitch, roll).T * FACE_PX + [256, 225, 0]).astype(np.float32)


def face_image(points):
    """A drawn face over smooth texture, so that any displacement shows."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (512, 512, 3)).astype(np.float32), (0, 0), 7)
    image = np.clip(128 + 6 * (noise - 127.5), 20, 235)
    image = 0.6 * image + 0.4 * np.array([190.0, 140.0, 120.0])

    def fill(group, colour):
        cv2.fillPoly(image, [np.round(points[list(group), :2]).astype(np.int32)], colour)

    fill(lm.OUTER_LIPS, (170.0, 80.0, 80.0))
    fill(lm.INNER_LIPS, (225.0, 220.0, 210.0))
    for eye, iris in ((lm.EYE_LEFT, lm.IRIS_LEFT), (lm.EYE_RIGHT, lm.IRIS_RIGHT)):
        fill(eye, (230.0, 230.0, 230.0))
        fill(iris[1:], (60.0, 40.0, 30.0))
    return cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.uint8)


@functools.cache
def rig(gap=0.0):
    points = face_landmarks(gap=gap)
    return Rig.from_image(face_image(points), points)


def row(**columns):
    return Motion.from_columns(1, columns).values[0]


def label(of, name, **columns):
    return float(of.labels(row(**columns)[None])[0, LABELS.index(name)])


def inner_gap_px(frame):
    return float((frame.landmarks[list(lm.LOWER_INNER_LIP), 1] - frame.landmarks[list(lm.UPPER_INNER_LIP), 1]).max())


def test_mesh_covers_the_face_and_knows_its_openings():
    mesh = triangles()
    assert mesh.min() == 0
    assert mesh.max() == NUM_VERTICES - 1
    edges = {frozenset(pair) for a, b, c in mesh[~opening_triangles()].tolist() for pair in ((a, b), (b, c), (c, a))}
    for loop in (lm.OVAL, lm.INNER_LIPS, lm.EYE_LEFT, lm.EYE_RIGHT):
        assert all(frozenset(pair) in edges for pair in zip(loop, (*loop[1:], loop[0]), strict=True))


def test_pose_is_recovered():
    head = fit_head(face_landmarks(yaw=9, pitch=-5, roll=4))
    assert np.allclose(angles(head.rotation), (9, -5, 4), atol=1e-3)
    assert head.scale_px == pytest.approx(FACE_PX, rel=1e-4)


@pytest.mark.parametrize("size", [128, 256, 512])
def test_no_motion_shows_the_portrait(size):
    frame = rig().render(None, size=size)
    expected = cv2.resize(rig().image, (size, size), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(frame.image.astype(int) - expected).mean() < 1.5
    assert np.abs(frame.flow).max() < 1e-6
    assert frame.mask.max() == 0
    assert np.allclose(frame.landmarks, rig().landmarks_px[:, :2] * size / 512, atol=1e-3)


@pytest.mark.parametrize("gap", [0.0, 0.04])
def test_rest_is_nearly_the_portrait(gap):
    frame = rig(gap).render(rig(gap).rest(), size=512)
    difference = np.abs(frame.image.astype(int) - rig(gap).image).mean(2)
    assert difference.mean() < 0.3
    assert np.abs(frame.flow).max() < 0.02


@pytest.mark.parametrize(
    "columns",
    [
        {"jaw": 0.6, "yaw": 8.0},
        {"pucker": 1.0, "jaw": 0.3, "roll": 6.0},
        {"press": 1.0, "blink_left": 1.0, "smile": 1.0},
        {"pitch": -7.0, "gaze_x": 1.0, "shift_x": 0.02, "scale": 0.03, "breath": 0.02},
    ],
)
@pytest.mark.parametrize("gap", [0.0, 0.04])
def test_flow_makes_the_frame_outside_the_mask(gap, columns):
    frame = rig(gap).render(row(**columns), size=256, flow_size=256)
    portrait = torch.from_numpy(rig(gap).soft_image.astype(np.float32)).permute(2, 0, 1)[None]
    centres = (torch.arange(256) * 2 + 1) / 256 - 1
    identity = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1)
    grid = (identity + torch.from_numpy(frame.flow))[None]
    warped = torch.nn.functional.grid_sample(portrait, grid, padding_mode="reflection", align_corners=False)[0].permute(1, 2, 0)
    difference = np.abs(warped.numpy() - frame.image).mean(2)[frame.mask < 0.02]
    assert difference.mean() < 0.7
    assert np.percentile(difference, 99.5) < 4


def test_half_size_flow_agrees_with_the_full_one():
    full = rig().render(row(jaw=0.5, yaw=6.0), size=256, flow_size=256).flow
    half = rig().render(row(jaw=0.5, yaw=6.0), size=256).flow
    assert half.shape == (128, 128, 2)
    mean = full.reshape(128, 2, 128, 2, 2).mean((1, 3))
    assert np.percentile(np.abs(half - mean), 99) < 1e-5


def test_jaw_opens_and_press_closes():
    opened = rig().render(row(jaw=1.0), size=512)
    assert inner_gap_px(opened) == pytest.approx(0.16 * FACE_PX, rel=0.05)
    for gap in (0.0, 0.04):
        for columns in ({"jaw": 0.0}, {"jaw": 0.7, "press": 1.0}):
            assert inner_gap_px(rig(gap).render(row(**columns), size=512)) < 0.8


def test_teeth_vanish_when_parted_lips_close():
    shown = rig(0.04).render(rig(0.04).rest(), size=512)
    closed = rig(0.04).render(row(), size=512)
    polygon = np.round(rig(0.04).landmarks_px[list(lm.INNER_LIPS), :2]).astype(np.int32)
    inside = np.zeros((512, 512), np.uint8)
    cv2.fillPoly(inside, [polygon], 1)
    assert shown.image[inside > 0].min(1).mean() > 150
    assert np.percentile(closed.image[inside > 0].min(1), 99) < 150


def test_mask_lies_between_the_inner_lips():
    frame = rig().render(row(jaw=0.8, yaw=5.0, blink_left=0.5), size=256, flow_size=256)
    inside = np.zeros((256, 256), np.uint8)
    polygon = np.round(frame.landmarks[list(lm.INNER_LIPS)]).astype(np.int32)
    cv2.fillPoly(inside, [polygon], 1)
    assert frame.mask[cv2.dilate(inside, np.ones((5, 5), np.uint8)) == 0].max() == 0
    assert frame.mask[cv2.erode(inside, np.ones((5, 5), np.uint8)) > 0].min() > 0.95


def test_chin_follows_the_jaw_and_the_forehead_does_not():
    moved = rig().render(row(jaw=1.0), size=512).landmarks - rig().landmarks_px[:, :2]
    assert moved[lm.CHIN_TIP, 1] == pytest.approx(0.8 * 0.16 * FACE_PX, rel=0.05)
    assert np.abs(moved[[10, 151, 33, 263, 4]]).max() < 0.5


def test_background_is_still_when_the_head_turns():
    frame = rig().render(row(yaw=12.0, jaw=0.5, smile=1.0), size=256, flow_size=256)
    border = np.ones((256, 256), bool)
    border[12:-12, 12:-12] = False
    assert np.abs(frame.flow[border]).max() < 2 / 256


def test_uv_marks_the_face_in_canonical_places():
    frame = rig().render(row(yaw=-8.0), size=256, uv_size=128)
    assert frame.uv.shape == (128, 128, 3)
    assert np.abs(frame.uv[..., :2]).max() <= 1
    for place, x_sign in ((lm.EYE_LEFT, -1), (lm.EYE_RIGHT, 1)):
        x, y = np.floor(frame.landmarks[list(place)].mean(0) / 2).astype(int)
        assert frame.uv[y, x, 2] == 1
        assert frame.uv[y, x, 0] * x_sign > 0.2
    assert frame.uv[0, 0].max() == 0


@pytest.mark.parametrize(
    ("column", "name", "sign"),
    [
        ("jaw", "opening", 1),
        ("wide", "mouth_width", 1),
        ("pucker", "mouth_width", -1),
        ("smile", "smile", 1),
        ("blink_left", "eye_open_left", -1),
        ("blink_right", "eye_open_right", -1),
        ("gaze_x", "gaze_x", 1),
        ("gaze_y", "gaze_y", 1),
        ("brow", "brow_left", 1),
        ("brow", "brow_right", 1),
        ("scale", "face_height", 1),
        ("shift_x", "centre_x", 1),
        ("shift_y", "centre_y", 1),
        *((name, name, 1) for name in ("press", "lower_in", "upper_raise", "tongue", "yaw", "pitch", "roll", "breath", "light")),
    ],
)
def test_labels_grow_with_their_parameter(column, name, sign):
    values = [label(rig(), name, **{"jaw": 0.2, column: amount}) for amount in (0.25, 0.5, 0.75, 1.0)]
    assert (np.diff(values) * sign > 0).all()


def test_labels_are_absolute():
    turned = face_landmarks(yaw=10, gap=0.03)
    other = Rig.from_image(face_image(turned), turned)
    assert label(other, "yaw") == pytest.approx(label(rig(), "yaw", yaw=10.0), abs=1e-2)
    assert label(other, "opening", jaw=0.5) == pytest.approx(label(rig(), "opening", jaw=0.5), abs=0.02)
    resting = other.labels(other.rest()[None])[0, LABELS.index("opening")]
    assert resting == pytest.approx(label(rig(), "opening", jaw=0.03 / 0.16), abs=0.02)


def test_small_changes_of_motion_move_little():
    start, end = row(jaw=0.1, press=0.8), row(jaw=0.6, pucker=0.5, blink_left=1.0, yaw=4.0)
    steps = [rig().render(start + (end - start) * t, size=128).landmarks for t in np.linspace(0, 1, 21, dtype=np.float32)]
    assert max(np.abs(b - a).max() for a, b in itertools.pairwise(steps)) < 0.8


def test_light_is_a_gain():
    dark, plain = (rig().render(row(light=gain), size=64).image.astype(float).mean() for gain in (-0.3, 0.0))
    assert dark / plain == pytest.approx(np.exp(-0.3), rel=0.02)


def test_wrong_inputs_are_refused():
    points = face_landmarks()
    with pytest.raises(DataError, match="512"):
        Rig.from_image(np.zeros((256, 256, 3), np.uint8), points)
    with pytest.raises(DataError, match="478"):
        Rig.from_image(np.zeros((512, 512, 3), np.uint8), points[:468])
    with pytest.raises(DataError, match="unknown"):
        Motion.from_columns(1, {"ear": 1.0})
    with pytest.raises(DataError, match="expected"):
        Motion(np.zeros((3, len(MOTION) + 1), np.float32))


def test_landmarks_alone_are_those_of_the_picture() -> None:
    moved = row(jaw=0.6, yaw=9, gaze_x=0.5, smile=0.4)
    points = rig().landmarks(moved, 256)
    assert np.allclose(points[:, :2], rig().render(moved, 256).landmarks, atol=1e-3)
    assert np.ptp(points[:468, 2]) > 20


def test_a_picture_without_fields_is_the_same_picture() -> None:
    moved = row(jaw=0.6, yaw=9)
    frame = rig().render(moved, 128, flow_size=0)
    whole = rig().render(moved, 128, uv_size=64)
    assert np.array_equal(frame.image, whole.image)
    assert np.array_equal(whole.flow, rig().render(moved, 128).flow)
    assert frame.flow.size == frame.mask.size == frame.uv.size == 0


def test_brows_lids_and_nose_have_a_say_of_their_own() -> None:
    rest = label(rig(), "eye_open_left")
    assert label(rig(), "eye_open_left", lids=1) > rest > label(rig(), "eye_open_left", lids=-1)
    assert label(rig(), "eye_open_left", lids=1, blink_left=1) == pytest.approx(label(rig(), "eye_open_left", blink_left=1))
    still, worried, sneering = (rig().expressions(r[None])[0] for r in (row(), row(brow_inner=1), row(sneer=1)))
    inner, outer = lm.BROW_LEFT[4], lm.BROW_LEFT[0]
    assert worried[inner, 1] < still[inner, 1] - 0.015
    assert worried[outer, 1] > still[outer, 1]
    assert sneering[64, 1] < still[64, 1] - 0.01


def test_corners_that_go_down_take_the_portraits_smile_along() -> None:
    points = face_landmarks()
    corners = [61, 291, 62, 292, 76, 306, 78, 308]
    points[corners, 1] -= 0.04 * FACE_PX
    smiling = Rig.from_image(face_image(points), points)
    sad = {"smile": -1.0}
    drop, usual = (float(label(of, "smile")) - float(label(of, "smile", **sad)) for of in (smiling, rig()))
    assert drop > usual + 1  # in deviations of 0.022 face heights
    assert label(smiling, "smile", **sad) < label(rig(), "smile")
