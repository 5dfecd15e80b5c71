import cv2
import numpy as np
import pytest

from tests.unit.evaluate.material import drawn_portrait, material, tiniest_model
from tests.unit.rig.test_rig import face_landmarks
from vivavoz.evaluate.background import (
    BackgroundConfig,
    BackgroundResult,
    Drift,
    background_region,
    evaluate_background,
    region_psnr,
    turned_deg,
)
from vivavoz.rig.landmarks import CHIN_TIP, OVAL


def test_background_is_neither_face_nor_shoulders():
    portrait = drawn_portrait()
    region = background_region(portrait.landmarks, 512)
    oval = np.round(portrait.landmarks[list(OVAL), :2]).astype(int)
    assert not region[oval[:, 1], oval[:, 0]].any()
    assert not region[int(portrait.landmarks[CHIN_TIP, 1]) :].any()
    assert region[5, 5]
    assert region[5, -5]
    assert 0.05 < region.mean() < 0.5


def test_psnr_is_that_of_the_region_over_all_pictures():
    truth = np.full((8, 8, 3), 100, np.uint8)
    region = np.zeros((8, 8), bool)
    region[:2] = True
    near, far = truth.copy(), truth.copy()
    far[:2] = 151  # a fifth of the range
    near[2:] = 0  # not in the region
    assert region_psnr((near,), truth, region) == 60
    assert region_psnr((far,), truth, region) == pytest.approx(13.979, abs=1e-2)
    assert region_psnr((near, far), truth, region) == pytest.approx(13.979 + 3.0103, abs=1e-2)
    small = np.asarray(cv2.resize(far, (4, 4), interpolation=cv2.INTER_AREA), np.uint8)
    assert region_psnr((small,), truth, region) == pytest.approx(13.979, abs=1e-2)


def test_turns_are_those_about_any_axis():
    assert turned_deg(face_landmarks(roll=7)[None], face_landmarks()) == pytest.approx(7, abs=0.01)
    both = np.stack([face_landmarks(yaw=4), face_landmarks(pitch=-8)])
    assert turned_deg(both, face_landmarks()) == pytest.approx(6, abs=0.01)


def test_a_long_stream_is_looked_at_now_and_then():
    config = BackgroundConfig(num_portraits=1, moments_s=(0, 1))
    yaws = iter([5.0] * 5 + [9.0] * 5)
    find = lambda image: face_landmarks(yaw=next(yaws))  # noqa: E731
    found, looks = evaluate_background(tiniest_model(), material(), config, find)
    (drift,) = found.drifts
    assert found.turned_deg == pytest.approx((5, 9), abs=0.05)
    assert len(drift.psnr_db) == 2
    assert all(0 < value < 60 for value in drift.psnr_db)
    assert [len(row) for row in looks] == [3]


def test_what_is_lost_is_that_of_the_worst_portrait():
    drifts = tuple(Drift(portrait=name, share=0.2, psnr_db=db) for name, db in (("a", (30.0, 29.5)), ("b", (28.0, 26.0))))
    found = BackgroundResult(moments_s=(2, 60), drifts=drifts)
    assert found.psnr_db == pytest.approx((29.0, 27.75))
    assert found.worst_loss_db == pytest.approx(2.0)
