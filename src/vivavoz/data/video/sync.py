"""How far a video's sound is from its picture: what the lips do is compared with what the sound says they do.

Loudness alone is no measure: lips stay open when a word has faded, and syllables repeat. A linear map from the sound's spectrum
to the shape of the lips, learnt once from a speaker of the GRID corpus (CC BY 4.0), tells an open vowel from a hiss.

Legend: F pictures at 25 a second, N samples at 16 kHz, S steps of 10 ms.
"""

import functools
import importlib.resources
import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ

MAX_OFFSET_S: Final = 0.4
STEP_HZ: Final = 100
"""The offset is found to 10 ms, finer than a picture."""

_HOP: Final = SAMPLE_RATE_HZ // STEP_HZ
_WINDOW: Final = 560
_FFT: Final = 1024
_EDGES_HZ: Final = (100, 250, 400, 600, 850, 1200, 1700, 2400, 3400, 5000, 7500)
_CONTEXT_STEPS: Final = (-12, -6, 0, 6, 12)
_SLOW_S: Final = 0.4
"""What changes over more than about a second is no speech: a smile, a turn, a fading."""
_FAR_S: Final = 0.12
_FAINT: Final = 1e-7
_STILL_LIPS: Final = 0.002
"""Deviation, in face heights, that landmarks of lips at rest have anyway."""
_STILL_SOUND: Final = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class Offset:
    """An estimate of how sound and picture lie to each other."""

    offset_s: float
    """By how much the sound is late; negative if it is early."""
    r: float
    """How well lips and sound agree at this offset: the mean correlation of the figures of the lips' shape that vary."""
    confidence: float
    """How far `r` stands out: over the median of those at offsets more than 0.12 s away."""


def estimate_offset(lips: NDArray[np.floating], samples: NDArray[np.float32]) -> Offset | None:
    """Find the offset, within +-0.4 s, at which the lips (F, 3), as `lip_shape` gives them, fit the sound (N,) best.

    Both start at the same moment. None where lips or sound do not vary, or there is less than a second.
    """
    num_steps = min(len(lips) * STEP_HZ // FRAME_RATE, len(samples) // _HOP)
    if num_steps < STEP_HZ:
        return None
    seen = lip_track(lips)[:num_steps]
    heard = sound_features(samples)[:num_steps] @ _weights()
    moving = seen.std(0) > _STILL_LIPS
    if not moving[0] or not (heard.std(0) > _STILL_SOUND).all():
        return None
    seen, heard = seen[:, moving], heard[:, moving]
    reach = round(MAX_OFFSET_S * STEP_HZ)
    lags = np.arange(-reach, reach + 1)
    curve = np.array([_correlation(seen, heard, int(lag)) for lag in lags])
    best = int(np.argmax(curve))
    far = np.abs(lags - lags[best]) > _FAR_S * STEP_HZ
    confidence = float(curve[best] - np.median(curve[far]))
    return Offset(offset_s=float(lags[best]) / STEP_HZ, r=float(curve[best]), confidence=confidence)


def lip_track(lips: NDArray[np.floating]) -> NDArray[np.float64]:
    """The lips' shape (F, 3) at every 10 ms, (S, 3), without what changes slowly."""
    at = (np.arange(len(lips) * STEP_HZ // FRAME_RATE) + 0.5) * FRAME_RATE / STEP_HZ - 0.5
    return _without_slow(np.stack([np.interp(at, np.arange(len(lips)), column) for column in lips.T], 1))


def sound_features(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Levels of ten bands of the sound (N,), at every 10 ms and around it, (S, 50), without what changes slowly."""
    from scipy.ndimage import gaussian_filter1d

    num_steps = len(samples) // _HOP
    padded = np.pad(samples.astype(np.float64), ((_WINDOW - _HOP) // 2, _WINDOW))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP][:num_steps]
    power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), _FFT)) ** 2
    hz = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE_HZ)
    bands = itertools.pairwise(_EDGES_HZ)
    levels_db = [10 * np.log10(power[:, (hz >= low) & (hz < high)].mean(1) + _FAINT) for low, high in bands]
    smooth = _without_slow(gaussian_filter1d(np.stack(levels_db, 1), 3, axis=0))
    at = np.arange(num_steps)
    return np.concatenate([smooth[np.clip(at - shift, 0, num_steps - 1)] for shift in _CONTEXT_STEPS], 1)


def _without_slow(tracks: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(tracks - gaussian_filter1d(tracks, _SLOW_S * STEP_HZ, axis=0, mode="nearest"))


def _correlation(seen: NDArray[np.float64], heard: NDArray[np.float64], late: int) -> float:
    """Pearson's r of each column of two tracks (S, 3), the sound `late` steps behind the lips; their mean."""
    a, b = (seen[: len(seen) - late], heard[late:]) if late >= 0 else (seen[-late:], heard[:late])
    a, b = a - a.mean(0), b - b.mean(0)
    scale = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return float(((a * b).sum(0) / np.maximum(scale, 1e-12)).mean())


@functools.cache
def _weights() -> NDArray[np.float64]:
    """From `sound_features` to `lip_track`, (50, 3)."""
    with importlib.resources.files("vivavoz.data.video").joinpath("sound_to_lips.npy").open("rb") as file:
        return np.asarray(np.load(file, allow_pickle=False), np.float64)
