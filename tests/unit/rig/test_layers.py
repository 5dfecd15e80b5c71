import functools

import cv2
import numpy as np
import pytest
import torch

from tests.unit.rig.test_rig import face_image, face_landmarks, row
from vivavoz.errors import DataError
from vivavoz.rig.layers import Layers
from vivavoz.rig.matte import person_matte, refined
from vivavoz.rig.rig import Rig

LINE_X = 128
"""A pole close to the head."""


def matte():
    """A head and shoulders, a little soft at the edge."""
    mask = np.zeros((512, 512), np.uint8)
    cv2.ellipse(mask, (256, 225), (105, 150), 0, 0, 360, 255, -1)
    cv2.rectangle(mask, (206, 330), (306, 512), 255, -1)
    cv2.rectangle(mask, (90, 440), (420, 512), 255, -1)
    return cv2.GaussianBlur(mask, (0, 0), 1.0)


@functools.cache
def picture():
    """The drawn person before a pole and a shaded wall."""
    person = face_image(face_landmarks()).astype(np.float32)
    wall = np.full((512, 512, 3), 90.0, np.float32) + np.linspace(0, 60, 512, dtype=np.float32)[:, None, None]
    wall[:, LINE_X - 4 : LINE_X + 4] = 240
    share = matte()[..., None] / np.float32(255)
    return (person * share + wall * (1 - share)).astype(np.uint8)


@functools.cache
def rig():
    return Rig.from_image(picture(), face_landmarks(), matte())


def pole(image, x):
    """Places of the pole's middle in rows beside the head."""
    rows = image[60:420, x - 25 : x + 25].min(2).astype(float)
    weight = np.maximum(rows - 190, 0)
    return (weight * np.arange(x - 25, x + 25)).sum(1) / weight.sum(1)


def test_lines_of_the_background_stay_straight_when_the_head_turns():
    moved = rig().render(row(yaw=12.0, roll=4.0, jaw=0.9), 512)
    assert np.abs(pole(moved.image, LINE_X) - pole(picture(), LINE_X)).max() < 0.2
    lone = Rig.from_image(picture(), face_landmarks()).render(row(yaw=12.0, roll=4.0, jaw=0.9), 512)
    assert np.ptp(pole(lone.image, LINE_X)) > 3  # the test can fail
    flow = moved.flow[20:200, LINE_X // 2 - 4 : LINE_X // 2 + 4]
    assert np.abs(flow).max() < 1e-6


def test_background_goes_with_the_camera():
    height_px = rig().head.scale_px
    moved = rig().render(row(shift_x=0.03), 512)
    assert pole(moved.image, LINE_X) == pytest.approx(LINE_X - 0.5 + 0.03 * height_px, abs=0.3)
    assert moved.flow[100, 30] == pytest.approx([-0.03 * height_px * 2 / 512, 0], abs=1e-5)
    assert moved.mask[100:150, 0].min() == 1  # the portrait ends there
    assert moved.mask[100:150, 8:60].max() == 0


@pytest.mark.parametrize(
    "columns",
    [{"yaw": 10.0, "jaw": 0.4}, {"roll": 6.0, "pitch": 5.0}, {"shift_x": 0.03, "scale": 0.04, "yaw": -8.0}, {"breath": 0.03}],
)
def test_flow_makes_the_frame_outside_the_mask(columns):
    frame = rig().render(row(**columns), size=256, flow_size=256)
    portrait = torch.from_numpy(rig().soft_image.astype(np.float32)).permute(2, 0, 1)[None]
    centres = (torch.arange(256) * 2 + 1) / 256 - 1
    grid = (torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1) + torch.from_numpy(frame.flow))[None]
    warped = torch.nn.functional.grid_sample(portrait, grid, padding_mode="border", align_corners=False)[0].permute(1, 2, 0)
    difference = np.abs(warped.numpy() - frame.image).mean(2)[frame.mask < 0.02]
    assert difference.mean() < 0.7
    assert np.percentile(difference, 99.5) < 5


def test_what_the_head_uncovers_is_in_the_mask_and_looks_like_the_wall():
    frame = rig().render(row(yaw=12.0), size=512, flow_size=512)
    assert matte()[225, 153:156].min() > 200  # the head's side in the portrait
    uncovered = slice(153, 156)
    assert frame.mask[225, uncovered].min() > 0.5
    assert np.abs(frame.image[225, uncovered].astype(int) - picture()[225, 140].astype(int)).max() < 25
    assert frame.mask[100:200, 10:110].max() == 0


def test_rest_is_nearly_the_portrait():
    frame = rig().render(rig().rest(), size=512)
    assert np.abs(frame.image.astype(int) - picture()).mean() < 0.3
    assert frame.mask.max() < 0.05


def test_flow_between_frames_knows_both_layers():
    turned, shifted = row(yaw=9.0), row(yaw=-9.0, shift_x=0.03)
    flow = rig().flow_between(turned, shifted, 256, 128)
    step = 0.03 * rig().head.scale_px * 2 / 512
    assert flow[20:90, 5:25] == pytest.approx(np.broadcast_to([step, 0], (70, 20, 2)), abs=1e-5)
    nose = (rig().landmarks(turned, 128)[4], rig().landmarks(shifted, 128)[4])
    x, y = nose[0][:2].astype(int)
    assert flow[y, x] == pytest.approx((nose[1] - nose[0])[:2] * 2 / 128, abs=0.01)


def test_a_matte_that_parts_nothing_makes_no_layers():
    assert Layers.of(picture(), np.full((512, 512), 255, np.uint8)) is None
    assert Layers.of(picture(), np.zeros((512, 512), np.uint8)) is None


def test_a_matte_of_another_shape_is_refused():
    with pytest.raises(DataError, match="matte of shape"):
        Rig.from_image(picture(), face_landmarks(), np.zeros((256, 256), np.uint8))


def test_a_rough_matte_is_drawn_to_the_edge():
    true = np.zeros((512, 512), np.float32)
    true[:, :260] = 1
    image = np.repeat((60 + 140 * true)[..., None], 3, 2).astype(np.uint8)
    rough = cv2.blur(np.roll(true, -4, 1), (17, 17))
    rough[:, -20:] = 0
    fine = refined(rough, image)
    assert np.abs(fine[:, 8:-8] / 255.0 - true[:, 8:-8]).mean() < 0.7 * np.abs(rough[:, 8:-8] - true[:, 8:-8]).mean()
    assert fine[:, 20:230].min() == 255
    assert fine[:, 290:].max() == 0


def test_without_mediapipe_nothing_is_parted(monkeypatch):
    def missing():
        raise DataError("no MediaPipe")

    monkeypatch.setattr("vivavoz.rig.matte.mediapipe_solutions", missing)
    assert person_matte(picture()).min() == 255
