"""Mouths measured: the gap of the lips in pictures, a mouth driven by loudness alone, and whether lips close when they must.

Legend: F pictures at 25 per second, N samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivavoz.data.phonemes import SILENCE, Phoneme
from vivavoz.evaluate.faces import FindLandmarks, follow_face
from vivavoz.evaluate.metrics import best_lag, pearson
from vivavoz.rig.head_pose import fit_head
from vivavoz.timing import FRAME_RATE, SAMPLES_PER_FRAME

BILABIALS = frozenset({"P", "B", "M"})
"""Sounds that cannot be made with open lips."""
CLOSED_SHARE = 0.15
"""Lips count as closed below this share of the clip's wide opening (its 95th percentile)."""
_UPPER_LIP, _LOWER_LIP = 13, 14
_SMOOTH_S = 0.08
_LOUDNESS_SPAN_DB = 40.0

Track = NDArray[np.float32]


def lip_opening(landmarks: NDArray[np.float32]) -> float:
    """Gap between the inner lips in face heights, measured in the head's frame as the label `opening` is."""
    points = fit_head(landmarks).to_head(landmarks[[_UPPER_LIP, _LOWER_LIP]])
    return max(float(points[1, 1] - points[0, 1]), 0.0)


def measure_openings(images: Iterable[NDArray[np.uint8]], find: FindLandmarks) -> Track:
    """Lip opening in every picture, (F,); pictures without a face take their value from their neighbours.

    Raises:
        DataError: no picture shows a face.
    """
    return openings_of(follow_face(images, find))


def openings_of(landmarks: NDArray[np.float32]) -> Track:
    """Lip opening (F,) of landmarks (F, 478, 3)."""
    return np.array([lip_opening(points) for points in landmarks], np.float32)


def without_lips(figures: NDArray[np.float32], opening: NDArray[np.floating]) -> NDArray[np.float32]:
    """Figures of a measured head (F, K) without what follows the lips' opening (F,) from one picture to the next.

    MediaPipe's heads look up as the jaw goes down, though the head rests: by some 26 degrees per face height of opening, which is
    more than most nods.
    """
    steps = np.diff(opening)
    follows = steps @ np.diff(figures, axis=0) / max(float(steps @ steps), 1e-9)
    return (figures - (opening - opening.mean())[:, None] * follows).astype(np.float32)


def loudness_mouth(samples: NDArray[np.float32], num_frames: int) -> Track:
    """What a mouth driven by loudness alone would do, (F,) in [0, 1].

    The level in dB, smoothed over about 80 ms; 1 is the level of loud syllables, 0 is 40 dB below.
    """
    whole = np.zeros(num_frames * SAMPLES_PER_FRAME, np.float64)
    whole[: len(samples)] = samples[: len(whole)]
    power = np.square(whole).reshape(num_frames, SAMPLES_PER_FRAME).mean(axis=1)
    half = round(_SMOOTH_S * FRAME_RATE)
    weights = np.hanning(2 * half + 1)[1:-1]
    near = np.convolve(power, weights / weights.sum(), mode="same")[:num_frames] if num_frames >= len(weights) else power
    level_db = 10 * np.log10(near + 1e-9)
    return np.clip(1 + (level_db - np.percentile(level_db, 98)) / _LOUDNESS_SPAN_DB, 0, 1).astype(np.float32)


def closure_hits(openings: Track, phonemes: Sequence[Phoneme]) -> tuple[int, int]:
    """How many p, b and m find the lips closed within a picture of their span, and how many there are."""
    limit = CLOSED_SHARE * float(np.percentile(openings, 95))
    hits = count = 0
    for phoneme in phonemes:
        if phoneme.symbol not in BILABIALS:
            continue
        first = max(int(phoneme.start_s * FRAME_RATE) - 1, 0)
        last = int(np.ceil(phoneme.end_s * FRAME_RATE))
        near = openings[first : last + 1]
        if len(near):
            count += 1
            hits += bool(near.min() < limit)
    return hits, count


def spoken_frames(phonemes: Sequence[Phoneme], num_frames: int) -> NDArray[np.bool_]:
    """Whether something is said at the middle of every picture, (F,)."""
    spoken = np.zeros(num_frames, bool)
    middles_s = (np.arange(num_frames) + 0.5) / FRAME_RATE
    for phoneme in phonemes:
        if phoneme.symbol != SILENCE:
            spoken |= (middles_s >= phoneme.start_s) & (middles_s < phoneme.end_s)
    return spoken


@dataclass(frozen=True, kw_only=True, slots=True)
class LipScores:
    """How a mouth's track (F,) agrees with the animator's."""

    r: float
    """Pearson's r over time."""
    best_r: float
    """The same at the best lag."""
    best_lag_frames: int
    """Pictures the mouth is late by, where it agrees best."""
    closures: int
    """p, b and m that found the lips closed."""
    bilabials: int
    """p, b and m in all."""
    deviation_speech: float
    """Standard deviation while something is said."""
    deviation_silence: float
    """And in pauses; NaN where there are none."""


def score_lips(openings: Track, truth: Track, phonemes: Sequence[Phoneme]) -> LipScores:
    """Compare a mouth with the truth; both (F,), in any unit that is 0 for closed lips."""
    lag, best = best_lag(openings, truth)
    hits, count = closure_hits(openings, phonemes)
    spoken = spoken_frames(phonemes, len(openings))
    return LipScores(
        r=pearson(openings, truth),
        best_r=best,
        best_lag_frames=lag,
        closures=hits,
        bilabials=count,
        deviation_speech=_deviation(openings[spoken]),
        deviation_silence=_deviation(openings[~spoken]),
    )


def _deviation(values: Track) -> float:
    return float(values.std()) if len(values) else float("nan")
