"""Loudness, pitch and accents of speech, one value per picture.

Picture i is shown from i/rate to (i+1)/rate seconds; its values are those at its centre.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vivavoz.errors import DataError
from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ

Floats = npt.NDArray[np.float32]

_HOP_SAMPLES = SAMPLE_RATE_HZ // 100
_QUIETEST_DB = -90.0
_PITCH_WINDOW_SAMPLES = 640
_LOWEST_HZ = 65.0
_HIGHEST_HZ = 420.0
_VOICED = 0.45
_AUDIBLE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Accent:
    """A stressed moment: its centre in seconds and its strength in [0, 1]."""

    time_s: float
    strength: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prosody:
    """Tracks of F pictures, float32 (F,): `loudness` [0, 1], `f0_hz` (0 where unvoiced), and the accents in order of time."""

    loudness: Floats
    f0_hz: Floats
    accents: tuple[Accent, ...]


def num_frames_of(num_samples: int, rate_hz: float = FRAME_RATE) -> int:
    """Pictures that cover `num_samples` samples, rounded up."""
    return int(np.ceil(num_samples * rate_hz / SAMPLE_RATE_HZ))


def band_loudness(samples: Floats, num_frames: int, *, rate_hz: float = FRAME_RATE, smooth_s: float = 0.02) -> Floats:
    """Loudness of the speech band (300 to 3000 Hz) per picture, float32 (num_frames,) in [0, 1].

    On a scale of decibels from the sound's own background (0) to its loud syllables (1). `smooth_s` is the deviation of the
    Gaussian that smooths the power.
    """
    level_db = _band_level_db(samples, smooth_s)
    peak_db = float(np.percentile(level_db, 97))
    floor_db = min(max(float(np.percentile(level_db, 8)) + 6.0, peak_db - 40.0), peak_db - 20.0)
    if peak_db < -75.0:
        return np.zeros(num_frames, np.float32)
    loudness = np.clip((level_db - floor_db) / (peak_db - floor_db), 0.0, 1.0)
    return _at_centres(loudness, num_frames, rate_hz)


def analyse(samples: Floats, *, rate_hz: float = FRAME_RATE) -> Prosody:
    """Prosody of `samples`, float32 (N,), 16 kHz, mono, [-1, 1], at `rate_hz` pictures per second."""
    if samples.ndim != 1:
        raise DataError(f"got sound of shape {samples.shape}, expected (N,): mix the channels to mono first")
    num_frames = num_frames_of(len(samples), rate_hz)
    if num_frames == 0:
        return Prosody(loudness=np.zeros(0, np.float32), f0_hz=np.zeros(0, np.float32), accents=())
    loudness = band_loudness(samples, num_frames, rate_hz=rate_hz)
    f0_hz = np.where(loudness > _AUDIBLE, _pitch(samples, num_frames, rate_hz), np.float32(0.0))
    return Prosody(loudness=loudness, f0_hz=f0_hz, accents=_accents(loudness, f0_hz, rate_hz))


def _band_level_db(samples: Floats, smooth_s: float) -> npt.NDArray[np.float64]:
    """Level of the speech band in decibels, every 10 ms, at the hop's centre."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import butter, sosfiltfilt

    hops = max(1, -(-len(samples) // _HOP_SAMPLES))
    # A second of zeros around the sound keeps the filter's ends out of it, however short it is.
    padded = np.pad(samples.astype(np.float64), (SAMPLE_RATE_HZ, SAMPLE_RATE_HZ + hops * _HOP_SAMPLES - len(samples)))
    band = sosfiltfilt(butter(2, (300.0, 3000.0), "bandpass", fs=SAMPLE_RATE_HZ, output="sos"), padded)
    power = (band**2).reshape(-1, _HOP_SAMPLES).mean(axis=1)
    power = gaussian_filter1d(power, smooth_s * SAMPLE_RATE_HZ / _HOP_SAMPLES)
    edge = SAMPLE_RATE_HZ // _HOP_SAMPLES
    level: npt.NDArray[np.float64] = 10.0 * np.log10(power[edge : edge + hops] + 10 ** (_QUIETEST_DB / 10))
    return level


def _at_centres(track: npt.NDArray[np.float64], num_frames: int, rate_hz: float) -> Floats:
    centres_s = (np.arange(num_frames) + 0.5) / rate_hz
    hop_centres_s = (np.arange(len(track)) + 0.5) * _HOP_SAMPLES / SAMPLE_RATE_HZ
    values: Floats = np.interp(centres_s, hop_centres_s, track).astype(np.float32)
    return values


def _pitch(samples: Floats, num_frames: int, rate_hz: float) -> Floats:
    """Fundamental frequency by normalised autocorrelation, 0 where the sound is not periodic."""
    from scipy.signal import butter, sosfiltfilt

    half = _PITCH_WINDOW_SAMPLES // 2
    centres = ((np.arange(num_frames) + 0.5) / rate_hz * SAMPLE_RATE_HZ).astype(int)
    padded = np.pad(samples.astype(np.float64), (half, half + int(SAMPLE_RATE_HZ / rate_hz)))
    # Mains hum is no voice.
    padded = sosfiltfilt(butter(2, _LOWEST_HZ, "highpass", fs=SAMPLE_RATE_HZ, output="sos"), padded)
    windows = padded[centres[:, None] + np.arange(_PITCH_WINDOW_SAMPLES)]
    taper = np.hanning(_PITCH_WINDOW_SAMPLES)
    windows = (windows - windows.mean(axis=1, keepdims=True)) * taper
    size = 2 * _PITCH_WINDOW_SAMPLES
    correlation = np.fft.irfft(np.abs(np.fft.rfft(windows, size, axis=1)) ** 2, size, axis=1)
    own = np.fft.irfft(np.abs(np.fft.rfft(taper, size)) ** 2, size)
    # Dividing by the taper's own correlation gives every lag the same chance (Boersma 1993).
    lags = np.arange(int(SAMPLE_RATE_HZ / _HIGHEST_HZ), int(SAMPLE_RATE_HZ / _LOWEST_HZ) + 1)
    power = correlation[:, :1]
    normalised = correlation[:, lags] / np.maximum(power, 1e-12) * (own[0] / own[lags])
    # A short lag is preferred among equals, or every pitch could be its own half.
    best = np.argmax(normalised - 0.1 * lags / lags[-1], axis=1)
    # A best lag at either end of the range belongs to something outside it.
    voiced = (normalised[np.arange(num_frames), best] > _VOICED) & (best > 0) & (best < len(lags) - 1)
    return np.where(voiced, SAMPLE_RATE_HZ / lags[best], 0.0).astype(np.float32)


def _accents(loudness: Floats, f0_hz: Floats, rate_hz: float) -> tuple[Accent, ...]:
    """Peaks of loudness and pitch together that stand out of their neighbourhood of about a second."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    if loudness.max(initial=0.0) <= 0.0:
        return ()
    envelope = gaussian_filter1d(loudness.astype(np.float64), 0.06 * rate_hz, mode="nearest")
    voiced = f0_hz > 0
    lift = np.zeros_like(envelope)
    if voiced.sum() > 2:
        octaves = np.log2(np.interp(np.arange(len(f0_hz)), np.flatnonzero(voiced), f0_hz[voiced]))
        lift = np.clip(gaussian_filter1d(octaves - np.median(octaves), 0.06 * rate_hz, mode="nearest"), -0.5, 0.5)
    stress = envelope * (1.0 + 0.6 * lift)
    around = gaussian_filter1d(stress, 0.6 * rate_hz, mode="nearest")
    # Silence on both sides lets a peak at the very start or end count.
    edge = max(1, round(0.1 * rate_hz))
    peaks, found = find_peaks(np.pad(stress, edge), distance=max(1, round(0.25 * rate_hz)), prominence=0.12)
    chosen = []
    for peak, prominence in zip(peaks - edge, found["prominences"], strict=True):
        strength = 0.6 * prominence + 1.2 * (stress[peak] - around[peak])
        if 0 <= peak < len(stress) and strength > 0.15:
            chosen.append(Accent(time_s=float((peak + 0.5) / rate_hz), strength=float(min(strength, 1.0))))
    return tuple(chosen)
