import itertools

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from vivavoz.data.video.sync import _weights, estimate_offset, lip_track, sound_features

RATE_HZ = 16_000


def talk(seconds, seed):
    """Sound (N,) of hums and hisses that come and go, and lips (T, 3) that do what the map from sound to lips says, and more."""
    rng = np.random.default_rng(seed)
    num_samples = round(seconds * RATE_HZ)
    sound = 1e-3 * rng.normal(size=num_samples)
    at = np.linspace(0, 12 * seconds, num_samples)
    for band_hz in ((150, 500), (600, 1500), (2500, 6000)):
        wave = sosfilt(butter(2, band_hz, "bandpass", fs=RATE_HZ, output="sos"), rng.normal(size=num_samples))
        swell = np.interp(at, np.arange(12 * seconds + 1), np.clip(rng.normal(size=12 * seconds + 1), 0, None))
        sound += 0.05 * swell * wave
    samples = sound.astype(np.float32)
    meant = sound_features(samples) @ _weights()
    seen = meant[: len(meant) // 4 * 4].reshape(-1, 4, 3).mean(1)
    return samples, 0.02 * (seen + 0.7 * seen.std(0) * rng.normal(size=seen.shape))


@pytest.mark.parametrize("late_s", [-0.3, -0.12, 0.0, 0.08, 0.25])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_offset_is_found_whatever_it_is(late_s, seed):
    samples, lips = talk(8, seed)
    found = estimate_offset(lips, np.roll(samples, round(late_s * RATE_HZ)))
    assert found.offset_s == pytest.approx(late_s, abs=0.04)
    assert found.confidence > 0.3


def test_other_speech_gives_less_confidence():
    pairs = [talk(8, seed) for seed in range(6)]
    right = [estimate_offset(lips, samples).confidence for samples, lips in pairs]
    wrong = [estimate_offset(lips, samples).confidence for (samples, _), (_, lips) in itertools.pairwise(pairs)]
    assert max(wrong) < min(right)


def test_a_slow_smile_and_another_loudness_do_not_disturb():
    samples, lips = talk(8, 3)
    before = estimate_offset(lips, samples)
    smile = np.linspace(0, 0.1, len(lips))[:, None] ** 2
    after = estimate_offset(lips + smile, 0.2 * samples)
    assert after.offset_s == pytest.approx(before.offset_s, abs=0.011)


def test_tracks_of_lips_and_sound_run_side_by_side():
    """A click and a twitch at the same moment are at the same step."""
    samples, lips = np.zeros(3 * RATE_HZ, np.float32), np.zeros((75, 3))
    samples[round(1.5 * RATE_HZ)] = 1
    lips[37, :] = 1  # shown from 1.48 to 1.52 s
    features = sound_features(samples)
    assert features.shape == (300, 50)
    now = features[:, 20:30].sum(1)
    assert abs(int(np.argmax(now)) - 149.5) <= 1.5
    assert abs(int(np.argmax(lip_track(lips)[:, 0])) - 149.5) <= 1.5


def test_where_nothing_moves_nothing_is_estimated():
    samples, lips = talk(3, 0)
    assert estimate_offset(np.ones_like(lips), samples) is None
    assert estimate_offset(lips, np.zeros_like(samples)) is None
    assert estimate_offset(lips[:20], samples) is None
