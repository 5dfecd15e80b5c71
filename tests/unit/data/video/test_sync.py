import numpy as np
import pytest

from vivavoz.data.video.sync import estimate_offset, lip_track, sound_features

RATE_HZ = 16_000


def vowels_and_hisses(seconds, seed):
    """Sound (N,) of open vowels, close vowels, hisses and pauses, and the lips (T, 3) that say so."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    harmonics = [(k, np.sin(2 * np.pi * 120 * k * time_s + k)) for k in range(1, 40)]

    def voice(formants):
        return sum(wave * sum(np.exp(-(((120 * k - f) / 150) ** 2)) for f in formants) for k, wave in harmonics)

    kinds = (
        (voice((750, 1200)), (0.12, 0.33, 0.3)),
        (voice((300, 800)), (0.02, 0.25, 0.22)),
        (rng.normal(size=len(time_s)), (0.01, 0.36, 0.15)),
    )
    sound, lips = 1e-4 * rng.normal(size=len(time_s)), np.tile([0.0, 0.33, 0.16], (round(seconds * 25), 1))
    at_s = 0.2
    while at_s < seconds - 0.4:
        wave, shape = kinds[rng.integers(3)]
        length_s = rng.uniform(0.1, 0.3)
        span = slice(round(at_s * RATE_HZ), round((at_s + length_s) * RATE_HZ))
        sound[span] += 0.1 * np.hanning(span.stop - span.start) * wave[span] / wave.std()
        seen = slice(round(at_s * 25), round((at_s + length_s) * 25))
        lips[seen] += np.hanning(seen.stop - seen.start + 2)[1:-1, None] * (np.array(shape) - [0.0, 0.33, 0.16])
        at_s += length_s + rng.choice([0.0, 0.08, 0.4])
    return sound.astype(np.float32), lips


@pytest.mark.parametrize("late_s", [-0.3, -0.12, 0.0, 0.08, 0.25])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_offset_is_found_whatever_it_is(late_s, seed):
    samples, lips = vowels_and_hisses(8, seed)
    found = estimate_offset(lips, np.roll(samples, round(late_s * RATE_HZ)))
    assert found.offset_s == pytest.approx(late_s, abs=0.04)
    assert found.confidence > 0.3


def test_other_speech_gives_less_confidence():
    pairs = [vowels_and_hisses(8, seed) for seed in range(6)]
    right = [estimate_offset(lips, samples).confidence for samples, lips in pairs]
    wrong = [estimate_offset(lips, samples).confidence for (samples, _), (_, lips) in zip(pairs, pairs[1:], strict=False)]
    assert np.median(wrong) < 0.6 * np.median(right)
    assert min(right) > 0.3


def test_a_slow_smile_and_another_loudness_do_not_disturb():
    samples, lips = vowels_and_hisses(8, 3)
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
    samples, lips = vowels_and_hisses(3, 0)
    assert estimate_offset(np.ones_like(lips), samples) is None
    assert estimate_offset(lips, np.zeros_like(samples)) is None
    assert estimate_offset(lips[:20], samples) is None
