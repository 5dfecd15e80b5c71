"""How far a video's sound is from its picture: lips that open are heard.

Legend: F pictures at 25 a second, N samples at 16 kHz.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vivavoz.data.prosody import band_loudness
from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ

MAX_OFFSET_S: Final = 0.4
STEP_HZ: Final = 100
"""The offset is found to 10 ms, finer than a picture."""
LIPS_LEAD_S: Final = 0.0
"""How far lips open ahead of the loudness they belong to, where sound and picture are in step."""

_MARGIN_S: Final = 0.12


@dataclass(frozen=True, kw_only=True, slots=True)
class Offset:
    """An estimate of how sound and picture lie to each other."""

    offset_s: float
    """By how much the sound is late; negative if it is early."""
    r: float
    """Correlation of lips and loudness at this offset."""
    confidence: float
    """How far `r` stands out: over the best of all offsets further than 0.12 s from it that are no slope of its peak."""


def estimate_offset(openings: NDArray[np.floating], samples: NDArray[np.float32]) -> Offset | None:
    """Correlate the opening of the lips (F,) with the loudness of the sound (N,) within +-0.4 s.

    Both start at the same moment. None where one of them does not vary, or the clip is shorter than a second.
    """
    num_frames = len(openings)
    if num_frames < FRAME_RATE or len(samples) < SAMPLE_RATE_HZ:
        return None
    num_steps = num_frames * STEP_HZ // FRAME_RATE
    loudness = band_loudness(samples, num_steps, rate_hz=STEP_HZ, smooth_s=0.03).astype(np.float64)
    at = (np.arange(num_steps) + 0.5) * FRAME_RATE / STEP_HZ - 0.5
    lips = np.interp(at, np.arange(num_frames), openings)
    lips, loudness = _flatten(lips), _flatten(loudness)
    if lips.std() < 1e-6 or loudness.std() < 1e-6:
        return None
    reach = round(MAX_OFFSET_S * STEP_HZ)
    lead = round(LIPS_LEAD_S * STEP_HZ)
    lags = np.arange(-reach, reach + 1)
    curve = np.array([_correlation(lips, loudness, lag + lead) for lag in lags])
    best = int(np.argmax(curve))
    far = np.abs(lags - lags[best]) > _MARGIN_S * STEP_HZ
    return Offset(
        offset_s=float(lags[best]) / STEP_HZ, r=float(curve[best]), confidence=float(curve[best] - np.median(curve[far]))
    )


def _flatten(track: NDArray[np.floating]) -> NDArray[np.float64]:
    """The track without what changes over more than about two seconds: a smile that comes is not speech."""
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(track - gaussian_filter1d(track.astype(np.float64), 0.7 * STEP_HZ, mode="nearest"), np.float64)


def _correlation(lips: NDArray[np.float64], loudness: NDArray[np.float64], late: int) -> float:
    """Pearson's r with the loudness `late` steps behind the lips."""
    a, b = (lips[: len(lips) - late], loudness[late:]) if late >= 0 else (lips[-late:], loudness[:late])
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale > 0 else 0.0
