"""CAPP: whether the head moves as the voice does (paper 4.3, tables 1 and I).

S. Xu et al., "VASA-1: lifelike audio-driven talking faces generated in real time" (2024), section 4.1: contrastive audio and
pose pretraining, as CLIP does for pictures and text. An encoder of sound and one of poses (a transformer of 6 layers) are
trained together to tell which 3 s of sound and of head pose belong together; a clip's score is the cosine of the two. Its
weights are not public: the package's own, and those that `vivavoz evaluate train-capp` makes, give `vivavoz CAPP`. There the
sound's encoder begins from wav2vec 2.0 and hears 2,000 hours; here it is a small transformer on mel frames. Scores of different
weights do not compare.

Legend: W windows of 75 pictures (3 s), T pictures, P = 6 figures of a pose, M = 240 mel frames, K mel bands, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.data.video.measure import measure_heads
from vivavoz.errors import DataError
from vivavoz.evaluate.mouth import openings_of, without_lips
from vivavoz.evaluate.videos.clips import TalkingClip
from vivavoz.evaluate.videos.judge_file import load_judge, save_judge
from vivavoz.evaluate.videos.sync import mel_frames
from vivavoz.rig.head_pose import HeadFit, angles
from vivavoz.timing import FRAME_RATE, SAMPLES_PER_FRAME

KIND = "vivavoz CAPP"
WINDOW_FRAMES = 3 * FRAME_RATE
MEL_FRAMES = 240
WIDTH = 96
MOMENTS = 15
MOMENT_FEATURES = 16
_STEP_FRAMES = FRAME_RATE
"""A score is the mean over windows that begin every second."""
_UNITS = (0.05, 0.03, 0.03, 0.015, 0.015, 0.01)
"""Usual deviations: angles in radians, place in face heights, logarithm of the size."""
POSE_FIGURES = len(_UNITS)
MIRRORED = (-1.0, 1.0, -1.0, -1.0, 1.0, 1.0)
"""What a figure becomes in a mirror."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeadClip:
    """A clip as CAPP sees it."""

    poses: Tensor
    """(T, 6), see `pose_track`."""
    mel: Tensor
    """(M, 80)."""

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.poses)


class Capp(nn.Module):
    """Two encoders to features of length 1: those of a window's 15 moments, side by side.

    A moment is 5 pictures and 16 mel frames, 0.2 s. So a cosine tells how far what is seen agrees with what is heard just then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pose_in = nn.Conv1d(2 * POSE_FIGURES, WIDTH, 15, stride=5, padding=5)
        self.pose_places = nn.Parameter(torch.randn(MOMENTS, WIDTH) * 0.02)
        self.pose_layers = _transformer(6)
        self.sound_in = nn.Sequential(
            nn.Conv1d(80, WIDTH, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv1d(WIDTH, WIDTH, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv1d(WIDTH, WIDTH, 8, stride=4, padding=2),
        )
        self.sound_places = nn.Parameter(torch.randn(MOMENTS, WIDTH) * 0.02)
        self.sound_layers = _transformer(3)
        self.pose_out, self.sound_out = nn.Linear(WIDTH, MOMENT_FEATURES), nn.Linear(WIDTH, MOMENT_FEATURES)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def feel(self, poses: Tensor) -> Tensor:
        """Poses (W, 75, P), see `pose_track` -> (W, D). Where a head is in the mean says nothing; how it moves does."""
        around = poses - poses.mean(dim=1, keepdim=True)
        speed = F.pad(around.diff(dim=1), (0, 0, 1, 0)) * 10
        hidden = self.pose_in(torch.cat([around, speed], dim=2).transpose(1, 2)).transpose(1, 2)
        return F.normalize(self.pose_out(self.pose_layers(hidden + self.pose_places)).flatten(1), dim=1)

    def hear(self, mel: Tensor) -> Tensor:
        """Mel frames (W, 240, K) in [-4, 4] -> (W, D)."""
        hidden = self.sound_in(mel.transpose(1, 2) / 4).transpose(1, 2)
        return F.normalize(self.sound_out(self.sound_layers(hidden + self.sound_places)).flatten(1), dim=1)

    @torch.inference_mode()
    def score(self, clip: TalkingClip) -> float:
        """CAPP of a clip, in [-1, 1]: the mean cosine over windows of 3 s, one a second.

        Raises:
            DataError: no face was found in it, or it is shorter than 3 s.
        """
        num_frames = min(clip.num_frames, len(clip.samples) // SAMPLES_PER_FRAME)
        if num_frames < WINDOW_FRAMES:
            raise DataError(f"{clip.name} has {num_frames} pictures with sound; CAPP needs {WINDOW_FRAMES} at least")
        device = self.log_scale.device
        first = torch.arange(0, num_frames - WINDOW_FRAMES + 1, _STEP_FRAMES)
        poses = pose_windows(torch.from_numpy(pose_track(clip)), first)
        mel = mel_windows(mel_frames(clip.samples), first)
        return float((self.feel(poses.to(device)) * self.hear(mel.to(device))).sum(dim=1).mean())

    def save(self, path: Path) -> None:
        """Write the weights. Raises `OutputError`."""
        save_judge(self, KIND, path)


def load_capp(path: Path) -> Capp:
    """The encoders from their file. Raises `WeightsError` for what is not one."""
    return load_judge(Capp(), KIND, path)


def pose_track(clip: TalkingClip) -> NDArray[np.float32]:
    """The head in every picture, (T, 6): yaw, pitch, roll, place across and down, and size, in their usual deviations.

    Raises:
        DataError: landmarks are missing.
    """
    points = clip.points()
    return without_lips(pose_figures(measure_heads(points)), openings_of(points))


def pose_figures(heads: Sequence[HeadFit]) -> NDArray[np.float32]:
    """What `pose_track` gives, (T, 6), of heads that were measured or made."""
    turns = np.radians([angles(head.rotation) for head in heads])
    sizes = np.array([head.scale_px for head in heads])
    usual = float(np.median(sizes))
    places = np.stack([head.origin_px[:2] for head in heads]) / usual
    return (np.concatenate([turns, places, np.log(sizes / usual)[:, None]], axis=1) / _UNITS).astype(np.float32)


def pose_windows(poses: Tensor, first: Tensor) -> Tensor:
    """(W, 75, P): 3 s from each of `first` (W,)."""
    return poses[first[:, None] + torch.arange(WINDOW_FRAMES)]


def mel_windows(mel: Tensor, first: Tensor) -> Tensor:
    """(W, 240, K): the sound of 3 s from each of `first` (W,)."""
    start = first * 16 // 5
    return mel[(start[:, None] + torch.arange(MEL_FRAMES)).clamp_max(len(mel) - 1)]


def _transformer(num_layers: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        WIDTH, nhead=4, dim_feedforward=2 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
