import numpy as np
import pytest

from vivavoz.data.prosody import analyse, band_loudness, num_frames_of
from vivavoz.errors import DataError

RATE_HZ = 16_000


def tone(f0_hz: float, duration_s: float) -> np.ndarray:
    time_s = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    return sum(np.sin(2 * np.pi * f0_hz * k * time_s) / k for k in range(1, 12)) * 0.2


def syllables(times_s: list[float], heights: list[float], duration_s: float) -> np.ndarray:
    time_s = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    envelope = sum(height * np.exp(-0.5 * ((time_s - at_s) / 0.06) ** 2) for at_s, height in zip(times_s, heights, strict=True))
    return (tone(120.0, duration_s) * (envelope + 1e-3)).astype(np.float32)


@pytest.mark.parametrize("f0_hz", [80.0, 125.0, 210.0, 350.0])
def test_pitch_of_a_harmonic_tone(f0_hz: float) -> None:
    f0 = analyse(tone(f0_hz, 1.0).astype(np.float32)).f0_hz
    assert np.abs(f0[2:-2] / f0_hz - 1).max() < 0.03


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32) * 0.1
    assert (analyse(noise).f0_hz > 0).mean() < 0.2
    silent = analyse(np.zeros(RATE_HZ, np.float32))
    assert not silent.f0_hz.any()
    assert not silent.loudness.any()
    assert silent.accents == ()


def test_accents_are_the_strong_syllables() -> None:
    times_s = [0.5, 1.2, 1.9, 2.6]
    accents = analyse(syllables(times_s, [1.0, 0.9, 1.0, 0.8], 3.2)).accents
    assert [accent.time_s for accent in accents] == pytest.approx(times_s, abs=0.08)
    assert all(0.0 < accent.strength <= 1.0 for accent in accents)


def test_loudness_follows_the_sound() -> None:
    loudness = analyse(syllables([0.5, 1.5], [1.0, 1.0], 2.0)).loudness
    assert loudness[[12, 37]].min() > 0.8
    assert loudness[[0, 25, 49]].max() < 0.2


def test_loudness_does_not_depend_on_the_gain() -> None:
    samples = syllables([0.5, 1.5], [1.0, 0.5], 2.0)
    assert band_loudness(samples, 50) == pytest.approx(band_loudness(samples * 0.1, 50), abs=0.02)


@pytest.mark.parametrize("num_samples", [1, 639, 640, 641, 16_001])
def test_one_value_per_picture(num_samples: int) -> None:
    prosody = analyse(np.random.default_rng(0).standard_normal(num_samples).astype(np.float32))
    assert len(prosody.loudness) == len(prosody.f0_hz) == num_frames_of(num_samples) == -(-num_samples // 640)
    assert np.isfinite(prosody.loudness).all()


def test_shape_is_checked() -> None:
    with pytest.raises(DataError, match="mono"):
        analyse(np.zeros((2, 100), np.float32))
    assert len(analyse(np.zeros(0, np.float32)).loudness) == 0


def test_mains_hum_is_no_voice() -> None:
    hum = 0.01 * np.sin(2 * np.pi * 60.0 * np.arange(2 * RATE_HZ) / RATE_HZ)
    f0_hz = analyse(syllables([1.0], [1.0], 2.0) + hum.astype(np.float32)).f0_hz
    assert not f0_hz[:15].any()
    assert f0_hz[25] == pytest.approx(120.0, rel=0.03)
