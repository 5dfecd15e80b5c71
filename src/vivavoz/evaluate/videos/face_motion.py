"""What landmarks and pixels tell of a clip: lips against the real ones, blinks, a background that stands still.

Legend: T pictures at 25 a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivavoz.evaluate.metrics import pearson
from vivavoz.evaluate.mouth import CLOSED_SHARE, Track
from vivavoz.evaluate.videos.clips import TalkingClip
from vivavoz.timing import FRAME_RATE

SHUT = 0.5
"""A blink begins where both eyes are more than half shut."""
STILL = 0.001
"""Lips whose opening deviates by less, in face heights, stand still: what a face finder tells of shut lips varies by 0.0003."""
_NEAR_FRAMES = 1
_MARGIN = 0.6
"""What belongs to the person: the face's box, enlarged so much on every side in heights of the face, and all below it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LipAgreement:
    """How the lips of a clip agree with those of the real one."""

    r: float
    """Pearson's r of the openings; 0 where the lips stand still, NaN where the real ones do."""
    gain: float
    """Deviation of the opening over the real one's; NaN where the real lips stand still."""
    closures: int
    """Closures of the real lips that find the generated ones closed within a picture."""
    num_closures: int
    """Closures of the real lips."""


def lip_agreement(openings: Track, real: Track) -> LipAgreement:
    """Compare the openings of the lips (T,) with the real ones (T,), in face heights.

    Lips are closed below 15 % of their own wide opening (the 95th percentile), and below what counts as standing still.
    """
    closed, truth = _closed(openings), _closed(real)
    starts = np.flatnonzero(truth & ~np.append(False, truth[:-1]))
    ends = np.flatnonzero(truth & ~np.append(truth[1:], False))
    hits = sum(
        bool(closed[max(start - _NEAR_FRAMES, 0) : end + _NEAR_FRAMES + 1].any()) for start, end in zip(starts, ends, strict=True)
    )
    moved, wanted = float(openings.std()), float(real.std())
    r, gain = (pearson(openings, real), moved / wanted) if wanted >= STILL else (float("nan"), float("nan"))
    return LipAgreement(r=0.0 if moved < STILL <= wanted else r, gain=gain, closures=hits, num_closures=len(starts))


def blinks_per_minute(blink: NDArray[np.floating]) -> float:
    """How often both eyes shut, a minute; `blink` (T, 2) is 0 for open and 1 for shut eyes."""
    shut = np.asarray(blink).min(axis=1) > SHUT
    return float((shut & ~np.append(False, shut[:-1])).sum() * 60 * FRAME_RATE / len(shut))


def background_drift(clip: TalkingClip) -> float:
    """How much what stands still wanders: mean difference, in grey levels, between the first and last second off the person.

    The person is the face's box over all pictures, enlarged by 0.6 face heights, and everything below it; NaN where that leaves
    nothing. A camera that moves counts too: compare with the real clip. Raises `DataError` without landmarks.
    """
    boxes = clip.face_boxes()
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    margin = _MARGIN * (bottom - top)
    height, width = clip.frames.shape[1:3]
    behind = np.ones((height, width), bool)
    first, last = max(int(left - margin), 0), max(int(np.ceil(right + margin)), 0)
    behind[max(int(top - margin), 0) :, first:last] = False
    behind[max(int(bottom), 0) :] = False
    if not behind.any():
        return float("nan")
    count = min(FRAME_RATE, max(clip.num_frames // 2, 1))
    start, end = (frames[:, behind].astype(np.float64).mean(axis=0) for frames in (clip.frames[:count], clip.frames[-count:]))
    return float(np.abs(end - start).mean())


def _closed(openings: Track) -> NDArray[np.bool_]:
    return np.asarray(openings < max(CLOSED_SHARE * float(np.percentile(openings, 95)), STILL))
