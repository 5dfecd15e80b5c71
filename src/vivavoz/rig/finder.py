"""Finding the 478 landmarks of a portrait with a network that ships, so that posing it asks for no other library.

First all points in a small copy of the portrait, then the lips' again in a cut of the mouth, turned upright: whether lips touch
is a matter of one or two pixels.

Shapes: B pictures, H W their size, P points.
"""

from __future__ import annotations

import functools
import importlib.resources
from itertools import chain, pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.nn.conv import ResBlock
from vivavoz.nn.norm import ChannelRMSNorm
from vivavoz.rig.landmarks import (
    CHIN_TIP,
    EYE_CORNERS_LEFT,
    EYE_CORNERS_RIGHT,
    FOREHEAD_TOP,
    LOWER_LIP_RINGS,
    NUM_LANDMARKS,
    UPPER_LIP_RINGS,
    mirrored_order,
)

FACE_SIDE_PX: Final = 128
"""Side of the small copy."""
MOUTH_SIZE_PX: Final = (96, 128)
"""Height and width of the mouth's cut."""
LIPS: Final = tuple(sorted({*chain(*UPPER_LIP_RINGS, *LOWER_LIP_RINGS)}))
"""The points that are found again."""
_MOUTH_WIDTH: Final = 1.15
"""Width of the cut in distances between the outer corners of the eyes."""
_SURE: Final = 0.04
"""Largest mean distance, in face heights, between what is found in a picture and in its mirror image."""
_WIDTHS: Final = (24, 48, 96, 128, 160)
_HIDDEN: Final = 256
_EYE_CORNERS: Final = [EYE_CORNERS_LEFT[0], EYE_CORNERS_RIGHT[0]]


class PointReader(nn.Module):
    """A few convolutions over a picture of a fixed size, then numbers: where things are in it.

    Args:
        num_values: numbers to tell.
        size_px: height and width of the pictures, multiples of 32.
    """

    def __init__(self, num_values: int, size_px: tuple[int, int]) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, _WIDTHS[0], 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(ResBlock(width) for width in _WIDTHS)
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 4, stride=2, padding=1) for fine, coarse in pairwise(_WIDTHS))
        self.norm_out = ChannelRMSNorm(_WIDTHS[-1])
        cells = size_px[0] * size_px[1] >> 2 * len(_WIDTHS)
        self.hidden = nn.Linear(cells * _WIDTHS[-1], _HIDDEN)
        self.out = nn.Linear(_HIDDEN, num_values)
        nn.init.zeros_(self.out.weight)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, V)."""
        x = self.conv_in(pictures.contiguous(memory_format=torch.channels_last))
        for i, block in enumerate(self.blocks):
            x = block(x if i == 0 else self.downs[i - 1](x))
        values: Tensor = self.out(F.silu(self.hidden(F.silu(self.norm_out(x)).flatten(1))))
        return values


class LandmarkFinder(nn.Module):
    """All landmarks of portraits, the lips' in a second, closer look."""

    def __init__(self) -> None:
        super().__init__()
        self.face = PointReader(3 * NUM_LANDMARKS, (FACE_SIDE_PX, FACE_SIDE_PX))
        self.mouth = PointReader(2 * len(LIPS), MOUTH_SIZE_PX)

    def forward(self, pictures: Tensor) -> Tensor:
        """Square portraits (B, 3, S, S) in [-1, 1] -> landmarks (B, 478, 3) in sides of the picture; z in the unit of x."""
        small = F.interpolate(pictures, (FACE_SIDE_PX, FACE_SIDE_PX), mode="bilinear", antialias=True, align_corners=False)
        points = self.face(small).unflatten(1, (NUM_LANDMARKS, 3)).float()
        frame = mouth_frame(points)
        lips = self.mouth(cut(pictures, frame, MOUTH_SIZE_PX)).unflatten(1, (len(LIPS), 2)).float()
        points[:, list(LIPS), :2] = out_of_frame(lips, frame)
        return points


def mouth_frame(points: Tensor) -> Tensor:
    """Where the mouth's cut lies, (B, 2, 3), by landmarks (B, 478, 3) in sides of the picture.

    It takes places in the cut, in [-1, 1], to places in the picture, in sides.
    """
    lips = points[:, list(LIPS), :2].mean(dim=1)
    left, right = points[:, _EYE_CORNERS[0], :2], points[:, _EYE_CORNERS[1], :2]
    along = _MOUTH_WIDTH / 2 * (right - left)
    down = torch.stack([-along[:, 1], along[:, 0]], dim=1) * (MOUTH_SIZE_PX[0] / MOUTH_SIZE_PX[1])
    return torch.stack([along, down, lips], dim=2)


def cut(pictures: Tensor, frame: Tensor, size_px: tuple[int, int]) -> Tensor:
    """What pictures (B, 3, H, W) show within frames (B, 2, 3): (B, 3, *size_px)."""
    theta = 2 * frame - torch.tensor([0.0, 0.0, 1.0], device=frame.device)
    grid = F.affine_grid(theta, [len(pictures), 3, *size_px], align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def out_of_frame(places: Tensor, frame: Tensor) -> Tensor:
    """Places (B, P, 2) in frames (B, 2, 3), brought to the picture: (B, P, 2) in its sides."""
    return places @ frame[:, :, :2].transpose(1, 2) + frame[:, None, :, 2]


def into_frame(points: Tensor, frame: Tensor) -> Tensor:
    """The inverse of `out_of_frame`."""
    return torch.linalg.solve(frame[:, :, :2], (points - frame[:, None, :, 2]).transpose(1, 2)).transpose(1, 2)


@functools.cache
def shipped_finder() -> LandmarkFinder:
    """The finder that ships, ready to be used."""
    stored = importlib.resources.files("vivavoz.rig").joinpath("landmark_finder.safetensors").read_bytes()
    with torch.device("meta"):
        finder = LandmarkFinder()
    weights = {name: tensor.float() for name, tensor in load_safetensors(stored).items()}
    finder.load_state_dict(weights, assign=True)
    return finder.eval().requires_grad_(False)


@torch.inference_mode()
def find_landmarks(image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Landmarks of a portrait (S, S, 3) uint8 RGB, cropped as avatars are: (478, 3) float32 in pixels, z in the unit of x.

    The picture and its mirror image are looked at: the result is their mean, or None where the two do not agree, as of a picture
    that shows no face.
    """
    seen = torch.from_numpy(np.stack([image, image[:, ::-1]])).permute(0, 3, 1, 2).float() / 127.5 - 1
    points, mirrored = shipped_finder()(seen).numpy()
    again = mirrored[mirrored_order()] * np.array([-1, 1, 1], np.float32) + np.array([1, 0, 0], np.float32)
    height = float(np.linalg.norm(points[FOREHEAD_TOP, :2] - points[CHIN_TIP, :2]))
    apart = np.linalg.norm(points[:, :2] - again[:, :2], axis=1).mean()
    if not apart < _SURE * height:
        return None
    return np.asarray((points + again) / 2 * np.float32(image.shape[0]), np.float32)
