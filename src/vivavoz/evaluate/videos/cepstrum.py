"""Mel cepstral coefficients as SyncNet was trained on: those of the package python_speech_features with its defaults.

Legend: N samples at 16 kHz, S steps of 10 ms.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from vivavoz.timing import SAMPLE_RATE_HZ

NUM_COEFFICIENTS = 13
_WINDOW_SAMPLES, _HOP_SAMPLES, _FFT = 400, 160, 512
_NUM_BANDS = 26
_LIFTER = 22
_PREEMPHASIS = 0.97
_LEAST = np.finfo(float).eps
_PCM_PEAK = 32768


def cepstrum(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Coefficients (S, 13) of sound (N,) in [-1, 1].

    Preemphasis, windows of 25 ms without a taper, the power of 512 Fourier bins in 26 mel triangles from 0 to 8 kHz (their
    corners on whole bins), logarithm, orthonormal cosine transform, sine lifter of 22; the first coefficient is the logarithm
    of the window's energy. The last window is filled up with zeros.
    """
    pcm = np.clip(np.round(samples.astype(np.float64) * _PCM_PEAK), -_PCM_PEAK, _PCM_PEAK - 1)
    emphasised = np.append(pcm[:1], pcm[1:] - _PREEMPHASIS * pcm[:-1])
    num_steps = 1 + max(-(-(len(pcm) - _WINDOW_SAMPLES) // _HOP_SAMPLES), 0)
    padded = np.zeros((num_steps - 1) * _HOP_SAMPLES + _WINDOW_SAMPLES)
    padded[: len(emphasised)] = emphasised[: len(padded)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::_HOP_SAMPLES]
    power = np.abs(np.fft.rfft(windows, _FFT)) ** 2 / _FFT
    bands = np.log(np.maximum(power @ _triangles(), _LEAST))
    coefficients = bands @ _cosines() * (1 + _LIFTER / 2 * np.sin(np.pi * np.arange(NUM_COEFFICIENTS) / _LIFTER))
    coefficients[:, 0] = np.log(np.maximum(power.sum(axis=1), _LEAST))
    return coefficients


@functools.cache
def _triangles() -> NDArray[np.float64]:
    """(257, 26): the mel bands; corners are equally far apart on the scale 2595 log10(1 + f / 700)."""
    highest = 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, highest, _NUM_BANDS + 2) / 2595) - 1)
    edges = np.floor((_FFT + 1) * edges_hz / SAMPLE_RATE_HZ)
    bins = np.arange(_FFT // 2 + 1)[:, None]
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    with np.errstate(divide="ignore", invalid="ignore"):  # low bands are narrower than a bin
        rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    return np.where((bins >= left) & (bins < middle), rising, np.where((bins >= middle) & (bins < right), falling, 0.0))


@functools.cache
def _cosines() -> NDArray[np.float64]:
    """(26, 13): the first columns of the orthonormal cosine transform (type II)."""
    at = np.arange(NUM_COEFFICIENTS) * (np.arange(_NUM_BANDS)[:, None] + 0.5)
    scale = np.where(np.arange(NUM_COEFFICIENTS) == 0, np.sqrt(1 / _NUM_BANDS), np.sqrt(2 / _NUM_BANDS))
    return np.cos(np.pi * at / _NUM_BANDS) * scale
