from dataclasses import replace

import numpy as np
import pytest

from tests.unit.evaluate.videos.material import talking_clip
from vivavoz.evaluate.videos.face_motion import background_drift, blinks_per_minute, lip_agreement


def openings(num_frames=100):
    return np.abs(np.sin(np.arange(num_frames) * np.pi / 10)).astype(np.float32) * 0.1  # shut at 0, 10, 20, ...


def test_equal_lips_agree_and_all_closures_are_hit():
    found = lip_agreement(openings(), openings())
    assert found.r == pytest.approx(1)
    assert found.num_closures == 10
    assert found.closures == 10


def test_lips_out_of_step_miss_closures():
    late = np.roll(openings(), 5)
    found = lip_agreement(late, openings())
    assert found.r < -0.8
    assert found.closures == 0
    assert lip_agreement(np.roll(openings(), 1), openings()).closures == 10  # within a picture


def test_lips_that_never_close_hit_nothing():
    assert lip_agreement(openings() + 0.1, openings()).closures == 0


def test_shut_lips_agree_with_nothing_whatever_a_face_finder_trembles():
    trembling = openings() * 0.003
    found = lip_agreement(trembling, openings())
    assert found.r == 0
    assert found.gain == pytest.approx(0.003)
    assert lip_agreement(openings() * 0.5, openings()).gain == pytest.approx(0.5)
    assert np.isnan(lip_agreement(openings(), trembling).r)


def test_blinks_are_counted_once_and_need_both_eyes():
    blink = np.zeros((250, 2))  # ten seconds
    blink[20:24] = 0.9
    blink[100:105] = 1.0
    blink[200:204, 0] = 1.0  # a wink
    assert blinks_per_minute(blink) == pytest.approx(2 * 6)


def test_a_background_that_stands_still_does_not_drift():
    clip = talking_clip(50)
    assert background_drift(clip) == 0
    face_only = clip.frames.copy()
    left, top, right, bottom = clip.face_boxes()[0].astype(int)
    face_only[25:, top:bottom, left:right] = 0
    assert background_drift(replace(clip, frames=face_only)) == 0


def test_a_background_that_brightens_drifts_by_as_much():
    clip = talking_clip(50)
    brighter = clip.frames.copy()
    brighter[25:] += 7
    assert background_drift(replace(clip, frames=brighter)) == pytest.approx(7)


def test_no_background_left_is_not_a_number():
    clip = talking_clip(10)
    wide = clip.points().copy()
    wide[..., :2] = (wide[..., :2] - 128) * 4 + 128
    assert np.isnan(background_drift(replace(clip, landmarks=wide)))
