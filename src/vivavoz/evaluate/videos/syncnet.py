"""SyncNet, the judge of lip sync that the field reports: S_C and S_D (paper 4.3, tables 1, I and II).

J. S. Chung and A. Zisserman, "Out of time: automated lip sync in the wild", 2016. The network takes the public weights
`syncnet_v2.model` (github.com/joonson/syncnet_python). What it sees is prepared as there: five pictures of 224 x 224, blue first,
in [0, 255], of a face that takes up the upper half of the picture; 13 cepstral coefficients of 20 steps of 10 ms.
One thing differs: the face's box is that of its landmarks, where the published code runs the S3FD detector.

Legend: T pictures, N samples at 16 kHz, S steps of 10 ms, W windows, D = 1024 features.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vivavoz.errors import DataError, WeightsError
from vivavoz.evaluate.videos.cepstrum import cepstrum
from vivavoz.evaluate.videos.clips import TalkingClip
from vivavoz.evaluate.videos.sync_scores import WINDOW_FRAMES, SyncScores, sync_scores
from vivavoz.timing import SAMPLES_PER_FRAME

CROP_PX = 224
SOUND_STEPS = 20
"""Steps of 10 ms that a window hears."""
_STEPS_PER_FRAME = 4
_MARGIN = 0.4
"""What is added around the face's box, as a share of its half side (`crop_scale`)."""
_SMOOTH_FRAMES = 13
_GREY = 110
"""Level of what lies outside the picture."""
_BATCH = 20


class SyncNet(nn.Module):
    """Two towers to 1024 features each. The names of the modules are those in the public file."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_layer2d(1, 64, (3, 3), padding=1),
            nn.Identity(),  # the published network pools over one place here
            *_layer2d(64, 192, (3, 3), padding=1),
            nn.MaxPool2d((3, 3), stride=(1, 2)),
            *_layer2d(192, 384, (3, 3), padding=1),
            *_layer2d(384, 256, (3, 3), padding=1),
            *_layer2d(256, 256, (3, 3), padding=1),
            nn.MaxPool2d((3, 3), stride=(2, 2)),
            *_layer2d(256, 512, (5, 4)),
        )
        self.netcnnlip = nn.Sequential(
            *_layer3d(3, 96, (5, 7, 7), stride=2),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_layer3d(96, 256, (1, 5, 5), stride=2, padding=1),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            *_layer3d(256, 256, (1, 3, 3), padding=1),
            *_layer3d(256, 256, (1, 3, 3), padding=1),
            *_layer3d(256, 256, (1, 3, 3), padding=1),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_layer3d(256, 512, (1, 6, 6)),
        )
        self.netfcaud, self.netfclip = _head(), _head()

    def hear(self, coefficients: Tensor) -> Tensor:
        """(W, 1, 13, 20) -> (W, D)."""
        return self.netfcaud(self.netcnnaud(coefficients).flatten(1))

    def see(self, pictures: Tensor) -> Tensor:
        """(W, 3, 5, 224, 224), blue first, in [0, 255] -> (W, D)."""
        return self.netfclip(self.netcnnlip(pictures).flatten(1))

    @torch.inference_mode()
    def score(self, clip: TalkingClip) -> SyncScores:
        """S_C and S_D of a clip.

        Raises:
            DataError: no face was found in it, or it is shorter than 13 pictures.
        """
        device = next(self.parameters()).device
        num_windows = min(clip.num_frames, len(clip.samples) // SAMPLES_PER_FRAME) - WINDOW_FRAMES
        if num_windows < _SMOOTH_FRAMES - WINDOW_FRAMES:
            raise DataError(
                f"{clip.name} has {num_windows + WINDOW_FRAMES} pictures with sound; expected {_SMOOTH_FRAMES} at least"
            )
        faces = torch.from_numpy(face_crops(clip)).permute(3, 0, 1, 2)
        heard = torch.from_numpy(cepstrum(clip.samples)).T.float()
        seen_parts, heard_parts = [], []
        for start in range(0, num_windows, _BATCH):
            at = range(start, min(start + _BATCH, num_windows))
            pictures = torch.stack([faces[:, i : i + WINDOW_FRAMES] for i in at]).float()
            first_steps = [_STEPS_PER_FRAME * i for i in at]
            steps = torch.stack([heard[:, step : step + SOUND_STEPS] for step in first_steps])[:, None]
            seen_parts.append(self.see(pictures.to(device)).cpu())
            heard_parts.append(self.hear(steps.to(device)).cpu())
        return sync_scores(torch.cat(seen_parts), torch.cat(heard_parts))


def load_syncnet(path: Path) -> SyncNet:
    """The network with the weights of `syncnet_v2.model`.

    Raises:
        WeightsError: a file that is missing, no dictionary of tensors, or of another network.
    """
    network = SyncNet()
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, TypeError, AttributeError, KeyError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise WeightsError(f"{path} cannot be used as SyncNet ({reason}); expected syncnet_v2.model of syncnet_python") from error
    return network.eval()


def face_crops(clip: TalkingClip) -> NDArray[np.uint8]:
    """Pictures (T, 224, 224, 3), blue first, of the face as the published pipeline cuts it out.

    The half side and centre of the face's box are smoothed by a median over 13 pictures; the crop reaches 0.4 of the half side
    beyond the box on the left, on the right and, twice as far, below, so that the mouth is in the middle.
    """
    boxes = clip.face_boxes()
    half = _median(np.max(boxes[:, 2:] - boxes[:, :2], axis=1) / 2)
    across, down = (_median(boxes[:, axis::2].mean(axis=1)) for axis in (0, 1))
    crops = []
    for image, half_side, x, y in zip(clip.frames, half, across, down, strict=True):
        pad = int(half_side * (1 + 2 * _MARGIN))
        wide = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), constant_values=_GREY)
        top, left = int(y + pad - half_side), int(x + pad - half_side * (1 + _MARGIN))
        bottom, right = int(y + pad + half_side * (1 + 2 * _MARGIN)), int(x + pad + half_side * (1 + _MARGIN))
        crops.append(cv2.resize(wide[max(top, 0) : bottom, max(left, 0) : right], (CROP_PX, CROP_PX)))
    return np.ascontiguousarray(np.stack(crops)[..., ::-1], dtype=np.uint8)


def _median(track: NDArray[np.floating]) -> NDArray[np.float64]:
    """Running median over 13 pictures with zeros beyond the ends, as the published pipeline's `scipy.signal.medfilt`."""
    padded = np.pad(np.asarray(track, np.float64), _SMOOTH_FRAMES // 2)
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, _SMOOTH_FRAMES), axis=1))


def _layer2d(c_in: int, c_out: int, kernel: tuple[int, int], *, padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, kernel, padding=padding), nn.BatchNorm2d(c_out), nn.ReLU()]


def _layer3d(c_in: int, c_out: int, kernel: tuple[int, int, int], *, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    """`stride` and `padding` are those of the picture; time has neither."""
    steps, edges = (1, stride, stride), (0, padding, padding)
    return [nn.Conv3d(c_in, c_out, kernel, stride=steps, padding=edges), nn.BatchNorm3d(c_out), nn.ReLU()]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))
