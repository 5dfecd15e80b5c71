import math

import numpy as np
import pytest

from tests.unit.evaluate.material import babble, drawn_portrait
from tests.unit.rig.test_rig import face_landmarks
from vivavoz.data.phonemes import Phoneme
from vivavoz.errors import DataError
from vivavoz.evaluate.mouth import (
    closure_hits,
    lip_opening,
    loudness_mouth,
    measure_openings,
    score_lips,
    spoken_frames,
    without_lips,
)
from vivavoz.rig.labels import in_units


@pytest.mark.parametrize("pose", [{}, {"yaw": 9.0, "pitch": -5.0, "roll": 6.0}])
def test_opening_is_in_face_heights_whatever_the_pose(pose):
    closed = lip_opening(face_landmarks(**pose))
    assert lip_opening(face_landmarks(gap=0.05, **pose)) - closed == pytest.approx(0.05, abs=0.004)


def test_opening_agrees_with_the_label_of_the_same_frame():
    rig = drawn_portrait().rig()
    rows = babble().motion[:12]
    truth = in_units(rig.labels(rows), "opening")
    measured = [lip_opening(_with_depth(rig.render(row, 128).landmarks, rig)) for row in rows]
    assert np.corrcoef(measured, truth)[0, 1] > 0.98


def _with_depth(points, rig):
    depth = rig.landmarks_px[:, 2:] * (128 / 512)
    return np.concatenate([points, depth], axis=1)


def test_pictures_without_a_face_take_their_neighbours_opening():
    found = {0: face_landmarks(), 1: None, 2: face_landmarks(gap=0.04)}
    track = measure_openings((np.full((4, 4, 3), i, np.uint8) for i in range(3)), lambda image: found[int(image[0, 0, 0])])
    assert track[1] == pytest.approx((track[0] + track[2]) / 2, rel=1e-4)
    with pytest.raises(DataError, match="no face"):
        measure_openings([np.zeros((4, 4, 3), np.uint8)], lambda image: None)


def test_loudness_mouth_follows_the_level():
    samples = np.zeros(640 * 40, np.float32)
    tone = 0.5 * np.sin(np.arange(640 * 20) * 0.3).astype(np.float32)
    samples[640 * 20 :] = tone
    track = loudness_mouth(samples, 40)
    assert track.shape == (40,)
    assert (track[:17] == 0).all()
    assert (track[23:] > 0.95).all()
    assert (loudness_mouth(0.1 * samples, 40)[23:] > 0.95).all()
    assert loudness_mouth(samples[:640], 2).shape == (2,)


def phoneme(symbol, first, last):
    return Phoneme(symbol=symbol, start_s=first / 25, end_s=last / 25)


def test_closures_are_found_within_a_frame():
    openings = np.full(40, 0.1, np.float32)
    openings[[9, 30]] = 0.0
    sounds = [phoneme("P", 10, 12), phoneme("M", 26, 28), phoneme("AA", 28, 32), phoneme("B", 29, 31)]
    assert closure_hits(openings, sounds) == (2, 3)
    assert closure_hits(openings, [phoneme("P", 60, 62)]) == (0, 0)


def test_spoken_frames_are_those_with_a_sound_in_their_middle():
    assert spoken_frames([phoneme("SIL", 0, 2), phoneme("AA", 2, 5)], 6).tolist() == [False, False, True, True, True, False]


def test_scores_of_the_truth_itself():
    speech = babble()
    truth = in_units(drawn_portrait().rig().labels(speech.motion), "opening")
    scores = score_lips(truth, truth, speech.phonemes)
    assert scores.r == pytest.approx(1)
    assert scores.best_lag_frames == 0
    assert (scores.closures, scores.bilabials) == (1, 1)
    still = score_lips(np.zeros_like(truth), truth, [phoneme("AA", 0, 100)])
    assert math.isnan(still.r)
    assert still.deviation_speech == 0
    assert math.isnan(still.deviation_silence)


def test_what_a_face_finder_takes_from_the_lips_is_given_back():
    rng = np.random.default_rng(0)
    times_s = np.arange(200) / 25
    true = np.stack([np.sin(2 * np.pi * times_s / period_s) for period_s in (1.1, 1.7, 2.3, 2.9, 3.7, 4.3)], axis=1)
    opening = 0.05 * np.abs(np.sin(2 * np.pi * 2.5 * times_s)) * rng.uniform(0.5, 1, 200)
    leaks = np.array([0, 30.0, -3.0, 0, 8.0, 0])
    cleaned = without_lips((true + opening[:, None] * leaks).astype(np.float32), opening)
    around = cleaned - cleaned.mean(axis=0), true - true.mean(axis=0)
    np.testing.assert_allclose(*around, atol=0.15)
    np.testing.assert_array_equal(without_lips(true.astype(np.float32), np.zeros(200)), true.astype(np.float32))
