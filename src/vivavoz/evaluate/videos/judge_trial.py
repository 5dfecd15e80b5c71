"""How good a trained judge is, on clips it has not seen: does it know sound that is in step from sound that is not?

Legend: C clips, T pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vivavoz.errors import DataError
from vivavoz.evaluate.videos import capp, sync
from vivavoz.evaluate.videos.contrast import Clip, Material
from vivavoz.evaluate.videos.sync_scores import WINDOW_FRAMES, sync_scores

SHIFTS_FRAMES = (-10, -5, -2, 2, 5, 10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What a judge did on clips held back."""

    num_clips: int
    right_offset: float
    """Share of clips whose own sound is found in step to a picture; NaN for CAPP, which has no offset."""
    offset_error_frames: float
    """Mean error of the offset found where the sound was moved by 2, 5 and 10 pictures either way; NaN for CAPP."""
    confidence: float
    """Mean confidence in step (CAPP: mean score)."""
    confidence_elsewhere: float
    """And with the sound of another clip."""
    told_apart: float
    """Share of pairs of clips (CAPP: of windows of two clips) in which one's own sound scores higher than the other's."""
    told_apart_in_time: float = float("nan")
    """CAPP: the same of pairs of windows of one clip: the same voice at another time. NaN where clips have one window only."""


@torch.inference_mode()
def try_sync(scorer: sync.SyncScorer, held: Sequence[Material]) -> Trial:
    """Score clips with their own sound, with their own moved, and with another's. Raises `DataError` for fewer than two clips."""
    clips = _enough(held, WINDOW_FRAMES + 2 * max(SHIFTS_FRAMES))
    seen = [scorer.see(sync.mouth_windows(clip.mouths, _windows(clip))) for clip in clips]
    heard = [scorer.hear(sync.mel_windows(clip.mel, _windows(clip))) for clip in clips]
    own = [sync_scores(lips, sound) for lips, sound in zip(seen, heard, strict=True)]
    errors = []
    for lips, sound in zip(seen, heard, strict=True):
        for shift in SHIFTS_FRAMES:
            late = max(shift, 0)
            early = max(-shift, 0)
            moved = sync_scores(lips[early : len(lips) - late], sound[late : len(sound) - early])
            errors.append(abs(moved.offset_frames - shift))
    other = []
    for i, lips in enumerate(seen):
        sound = heard[(i + 1) % len(heard)]
        count = min(len(lips), len(sound))
        other.append(sync_scores(lips[:count], sound[:count]).confidence)
    return Trial(
        num_clips=len(clips),
        right_offset=float(np.mean([abs(one.offset_frames) <= 1 for one in own])),
        offset_error_frames=float(np.mean(errors)),
        confidence=float(np.mean([one.confidence for one in own])),
        confidence_elsewhere=float(np.mean(other)),
        told_apart=float(np.mean([one.confidence > elsewhere for one, elsewhere in zip(own, other, strict=True)])),
    )


@torch.inference_mode()
def try_capp(encoders: capp.Capp, held: Sequence[capp.HeadClip]) -> Trial:
    """Score every 3 s of all clips with their own sound and every other 3 s. Raises `DataError` for fewer than two clips."""
    clips = _enough(held, capp.WINDOW_FRAMES)
    first = [torch.arange(0, clip.num_frames - capp.WINDOW_FRAMES + 1, capp.WINDOW_FRAMES) for clip in clips]
    poses = encoders.feel(torch.cat([capp.pose_windows(clip.poses, at) for clip, at in zip(clips, first, strict=True)]))
    sounds = encoders.hear(torch.cat([capp.mel_windows(clip.mel, at) for clip, at in zip(clips, first, strict=True)]))
    owner = torch.repeat_interleave(torch.arange(len(clips)), torch.tensor([len(at) for at in first]))
    cosines = poses @ sounds.T
    own = cosines.diagonal()
    beaten = own[:, None] > cosines
    other = owner[:, None] != owner
    later = ~other & ~torch.eye(len(owner), dtype=torch.bool)
    return Trial(
        num_clips=len(clips),
        right_offset=float("nan"),
        offset_error_frames=float("nan"),
        confidence=float(own.mean()),
        confidence_elsewhere=float(cosines[other].mean()),
        told_apart=float(beaten[other].float().mean()),
        told_apart_in_time=float(beaten[later].float().mean()),
    )


def describe(trial: Trial) -> str:
    """One line."""
    offsets = ""
    if not np.isnan(trial.right_offset):
        offsets = f"{trial.right_offset:.0%} found in step, moved sound found to {trial.offset_error_frames:.2f} frames, "
    in_time = (
        "" if np.isnan(trial.told_apart_in_time) else f", from the same voice at another time {trial.told_apart_in_time:.0%}"
    )
    return (
        f"on {trial.num_clips} clips held back: {offsets}{trial.confidence:.3f} with their own sound, "
        f"{trial.confidence_elsewhere:.3f} with another's, told apart {trial.told_apart:.0%}{in_time}"
    )


def _windows(clip: Material) -> Tensor:
    return torch.arange(clip.num_frames - WINDOW_FRAMES + 1)


def _enough(held: Sequence[Clip], num_frames: int) -> list[Clip]:
    clips = [clip for clip in held if clip.num_frames >= num_frames]
    if len(clips) < 2:
        raise DataError(f"got {len(clips)} clips of {num_frames} pictures or more held back, expected 2: give a larger corpus")
    return clips
