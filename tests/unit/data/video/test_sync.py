import numpy as np
import pytest

from tests.unit.data.video.material import speech
from vivavoz.data.video.sync import LIPS_LEAD_S, estimate_offset


@pytest.mark.parametrize("late_s", [-0.3, -0.12, 0.0, 0.08, 0.25])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_offset_is_found_whatever_it_is(late_s, seed):
    samples, loudness = speech(4, seed)
    late = np.roll(samples, round((late_s + LIPS_LEAD_S) * 16_000))
    found = estimate_offset(0.03 * loudness + 0.01, late)
    assert found.offset_s == pytest.approx(late_s, abs=0.03)
    assert found.r > 0.7
    assert found.confidence > 0.3


def test_another_persons_speech_gives_no_confidence():
    mouths = [speech(10, seed)[1] for seed in range(6)]
    sounds = [speech(10, 100 + seed)[0] for seed in range(6)]
    wrong = [estimate_offset(mouth, sound).confidence for mouth, sound in zip(mouths, sounds, strict=True)]
    right = [estimate_offset(speech(10, seed)[1], speech(10, seed)[0]).confidence for seed in range(6)]
    assert max(wrong) < min(right)


def test_a_slow_smile_does_not_disturb():
    samples, loudness = speech(6)
    smile = np.linspace(0, 2, len(loudness)) ** 2
    assert estimate_offset(loudness + smile, samples).offset_s == pytest.approx(-LIPS_LEAD_S, abs=0.03)


def test_where_nothing_moves_nothing_is_estimated():
    samples, loudness = speech(3)
    assert estimate_offset(np.zeros(75), samples) is None
    assert estimate_offset(loudness, np.zeros_like(samples)) is None
    assert estimate_offset(loudness[:20], samples) is None
