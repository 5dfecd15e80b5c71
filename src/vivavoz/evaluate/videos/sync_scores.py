"""How well lips and sound fit, from features of both: SyncNet's offset, confidence and distance.

Legend: W windows of 5 pictures, one starting at every picture, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoz.errors import DataError

WINDOW_FRAMES = 5
"""Pictures that a feature looks at: 0.2 s."""
MAX_SHIFT_FRAMES = 15
"""The sound is moved this far to either side (`vshift` of the published code)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncScores:
    """What SyncNet says of a clip."""

    confidence: float
    """S_C: the median over shifts of the mean distance, minus the least. Higher is better."""
    distance: float
    """S_D: the least of the mean distances over shifts. Lower is better."""
    offset_frames: int
    """By how many pictures the sound comes too soon at the best shift; 0 in step."""


def sync_scores(lips: Tensor, sound: Tensor, *, max_shift_frames: int = MAX_SHIFT_FRAMES) -> SyncScores:
    """Compare the windows of a clip at every shift.

    For every shift the distances |lips[i] - sound[i + shift]| are averaged over all windows; beyond the ends the sound's features
    are zeros. This is Chung and Zisserman, "Out of time: automated lip sync in the wild" (2016), section 4, as
    github.com/joonson/syncnet_python computes it; Prajwal et al. (Wav2Lip, 2020) call the two numbers LSE-C and LSE-D.

    Args:
        lips: (W, D) features of the pictures.
        sound: (W, D) features of the sound at the same moments.
        max_shift_frames: the furthest shift.

    Raises:
        DataError: no windows, or not as many of sound as of lips.
    """
    if lips.shape != sound.shape or not len(lips):
        raise DataError(f"got {len(lips)} windows of lips and {len(sound)} of sound; expected as many of both, at least one")
    padded = F.pad(sound.float(), (0, 0, max_shift_frames, max_shift_frames))
    curve = torch.stack(
        [F.pairwise_distance(lips.float(), padded[shift : shift + len(lips)]).mean() for shift in range(2 * max_shift_frames + 1)]
    )
    least, at = curve.min(dim=0)
    return SyncScores(
        confidence=float(curve.median() - least),
        distance=float(least),
        offset_frames=max_shift_frames - int(at),
    )
