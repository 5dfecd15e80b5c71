"""`vivavoz sync`: the project's own judge of lip sync, where SyncNet's weights are not at hand. Not S_C and S_D.

A small network in SyncNet's manner: five pictures of the mouth, and the 0.2 s of sound they were spoken in, to features of
length 1 that lie close together when they belong together. Confidence and distance are then taken as SyncNet's are, see
`sync_scores`. `vivavoz evaluate train-sync` trains one on any corpus of shards.

Legend: W windows of 5 pictures, T pictures, S side of the mouth's crop, M mel frames (16 to a window), K mel bands, D
features.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.audio.mel import MelSpectrogram
from vivavoz.errors import DataError
from vivavoz.evaluate.videos.clips import TalkingClip
from vivavoz.evaluate.videos.judge_file import load_judge, save_judge
from vivavoz.evaluate.videos.sync_scores import WINDOW_FRAMES, SyncScores, sync_scores
from vivavoz.rig.landmarks import OUTER_LIPS
from vivavoz.timing import SAMPLES_PER_FRAME

KIND = "vivavoz sync"
MOUTH_PX = 48
MEL_FRAMES = 16
"""Mel frames of a window: 0.2 s at 80 a second."""
FEATURES = 128
_WIDTHS = (32, 64, 96, 128)
_MOUTH_SHARE = 0.5
"""Side of the mouth's crop in heights of the face's oval."""
_MIN_FRAMES = WINDOW_FRAMES + 1


class SyncScorer(nn.Module):
    """Two towers of four convolutions to 128 features each, and the sharpness of their comparison in training."""

    def __init__(self) -> None:
        super().__init__()
        self.see_layers = _tower(WINDOW_FRAMES, ((2, 2),) * 4, (MOUTH_PX // 16) ** 2)
        self.hear_layers = _tower(1, ((2, 1), (2, 2), (2, 2), (2, 2)), 5 * 2)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def see(self, mouths: Tensor) -> Tensor:
        """Mouths (W, 5, S, S), grey in [0, 255] -> (W, D)."""
        return F.normalize(self.see_layers(_standardised(mouths.float())), dim=1)

    def hear(self, mel: Tensor) -> Tensor:
        """Mel frames (W, 16, K) in [-4, 4] -> (W, D)."""
        return F.normalize(self.hear_layers(mel.transpose(1, 2)[:, None] / 4), dim=1)

    @torch.inference_mode()
    def score(self, clip: TalkingClip) -> SyncScores:
        """Confidence, distance and offset of a clip.

        Raises:
            DataError: no face was found in it, or it is shorter than six pictures.
        """
        num_frames = min(clip.num_frames, len(clip.samples) // SAMPLES_PER_FRAME)
        if num_frames < _MIN_FRAMES:
            raise DataError(f"{clip.name} has {num_frames} pictures with sound; expected {_MIN_FRAMES} at least")
        device = self.log_scale.device
        mouths, mel = torch.from_numpy(mouth_crops(clip)), mel_frames(clip.samples)
        first = torch.arange(num_frames - WINDOW_FRAMES + 1)
        return sync_scores(
            self.see(mouth_windows(mouths, first).to(device)).cpu(), self.hear(mel_windows(mel, first).to(device)).cpu()
        )

    def save(self, path: Path) -> None:
        """Write the weights. Raises `OutputError`."""
        save_judge(self, KIND, path)


def load_sync(path: Path) -> SyncScorer:
    """A scorer from its file. Raises `WeightsError` for what is not one."""
    return load_judge(SyncScorer(), KIND, path)


def mouth_crops(clip: TalkingClip) -> NDArray[np.uint8]:
    """The mouth in every picture, (T, S, S) grey, S = 48: squares of one size, half as high as the face, that follow the lips.

    Raises:
        DataError: landmarks are missing.
    """
    boxes = clip.face_boxes()
    centres = clip.points()[:, list(OUTER_LIPS), :2].mean(axis=1)
    half = 2  # pictures to either side that a centre is averaged over, so that the crop does not shiver
    padded = np.pad(centres, ((half, half), (0, 0)), mode="edge")
    centres = np.mean([padded[i : i + len(centres)] for i in range(2 * half + 1)], axis=0)
    side = max(round(_MOUTH_SHARE * float(np.median(boxes[:, 3] - boxes[:, 1]))), 8)
    crops = []
    for image, (x, y) in zip(clip.frames, centres.tolist(), strict=True):
        mouth = cv2.cvtColor(cv2.getRectSubPix(image, (side, side), (x, y)), cv2.COLOR_RGB2GRAY)
        crops.append(cv2.resize(mouth, (MOUTH_PX, MOUTH_PX), interpolation=cv2.INTER_AREA))
    return np.stack(crops).astype(np.uint8)


def mel_frames(samples: NDArray[np.float32]) -> Tensor:
    """Mel frames (M, K) of sound (N,) at 16 kHz, 80 a second."""
    return MelSpectrogram()(torch.from_numpy(samples)[None])[0]


def mouth_windows(mouths: Tensor, first: Tensor) -> Tensor:
    """(W, 5, S, S): the five pictures from each of `first` (W,)."""
    return mouths[first[:, None] + torch.arange(WINDOW_FRAMES)]


def mel_windows(mel: Tensor, first: Tensor) -> Tensor:
    """(W, 16, K): the 0.2 s of sound of the five pictures from each of `first` (W,)."""
    start = first * 16 // 5  # 80 mel frames to 25 pictures
    return mel[(start[:, None] + torch.arange(MEL_FRAMES)).clamp_max(len(mel) - 1)]


def _standardised(x: Tensor) -> Tensor:
    """Mean 0 and deviation 1 of every window: light and contrast say nothing."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) / (x.std(dim=(1, 2, 3), keepdim=True) + 1.0)


def _tower(c_in: int, strides: tuple[tuple[int, int], ...], num_places: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, stride in zip(_WIDTHS, strides, strict=True):
        layers += [nn.Conv2d(c_in, width, 3, stride=stride, padding=1), nn.GroupNorm(8, width), nn.GELU()]
        c_in = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(c_in * num_places, FEATURES))
