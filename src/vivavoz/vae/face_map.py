"""The face map: where on a face every pixel of a picture lies, read by a network of its own (docs/adr/0011-face-map.md).

A decoder that bends a stranger's photograph must first know where in it the lips are. Convolutions that only learn this by what
it does to the pixels learn the people they have seen; the animator knows the truth for every picture, so a U-Net is taught it
directly. References pass it once per session, however large it is.

Shapes: B pictures, C channels, H W the pictures' size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.nn.conv import ResBlock
from vivavoz.nn.norm import ChannelRMSNorm

NUM_PLACES: Final = 5
"""Channels of a map: place on the mean face (x, y), and the logits of face, open mouth and open eyes."""
_OCTAVES: Final = (1.0, 2.0, 4.0, 8.0)
NUM_WAVES: Final = NUM_PLACES + 4 * len(_OCTAVES)
"""Channels of `waves`."""


@dataclass(frozen=True, slots=True)
class FaceFeatures:
    """What the network saw in some pictures."""

    places: Tensor
    """(B, NUM_PLACES, H/2, W/2)."""
    levels: tuple[Tensor, Tensor, Tensor]
    """Features with `waves` of the places at 1/2, 1/4 and 1/8 of the side."""
    coarse: Tensor
    """Features (B, C, H/16, W/16)."""


class FaceMap(nn.Module):
    """A U-Net from pictures to the place on the mean face of every second pixel.

    Args:
        channels: widths at 1/2, 1/4, 1/8, 1/16 and any coarser halvings of the side.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels[0], 4, stride=2, padding=1)
        pairs = list(pairwise(channels))
        self.down_blocks = nn.ModuleList(ResBlock(width) for width in channels)
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 4, stride=2, padding=1) for fine, coarse in pairs)
        self.ups = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs)
        self.up_blocks = nn.ModuleList(ResBlock(fine) for fine, _ in pairs)
        self.norm_out = ChannelRMSNorm(channels[0])
        self.conv_out = nn.Conv2d(channels[0], NUM_PLACES, 3, padding=1)

    def forward(self, pictures: Tensor) -> FaceFeatures:
        """(B, 3, H, W) in [-1, 1], sides multiples of 64 -> what is seen in them."""
        x = self.conv_in(pictures.contiguous(memory_format=torch.channels_last))
        skips = []
        for i, block in enumerate(self.down_blocks):
            x = block(x if i == 0 else self.downs[i - 1](x))
            skips.append(x)
        levels = [x]
        for i in reversed(range(len(self.ups))):
            up = F.interpolate(self.ups[i](levels[-1]), size=skips[i].shape[-2:], mode="bilinear", align_corners=False)
            levels.append(self.up_blocks[i](skips[i] + up))
        half, quarter, eighth, coarse = reversed(levels[-4:])
        places = self.conv_out(F.silu(self.norm_out(half)))
        return FaceFeatures(places, (_told(half, places), _told(quarter, places), _told(eighth, places)), coarse)


class PlaceReader(nn.Module):
    """A face map, brought to 1/16 of the picture's side: the shape of a face without its skin, for E2 to measure."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        widths = (NUM_PLACES, num_channels // 4, num_channels // 2, num_channels)
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 4, stride=2, padding=1) for fine, coarse in pairwise(widths))
        self.blocks = nn.ModuleList(ResBlock(width) for width in widths[1:])

    def forward(self, places: Tensor) -> Tensor:
        """(B, NUM_PLACES, H/2, W/2) -> (B, C, H/16, W/16)."""
        x = torch.cat([places[:, :2], places[:, 2:].sigmoid()], dim=1)
        for down, block in zip(self.downs, self.blocks, strict=True):
            x = block(down(x))
        return x


def waves(places: Tensor) -> Tensor:
    """A map (B, NUM_PLACES, h, w) as numbers that tell near places apart: (B, NUM_WAVES, h, w).

    The place times, and the sines and cosines of it weighted with, how sure it is that there is a face; then all likelihoods.
    """
    likelihood = places[:, 2:].sigmoid()
    face = likelihood[:, :1]
    place = places[:, :2]
    turned = [octave * torch.pi * place for octave in _OCTAVES]
    return torch.cat([place * face, *(f(turn) * face for turn in turned for f in (torch.sin, torch.cos)), likelihood], dim=1)


def _told(features: Tensor, places: Tensor) -> Tensor:
    """Features with the places' waves beside them, at the features' size."""
    if features.shape[-1] != places.shape[-1]:
        places = F.interpolate(places, size=features.shape[-2:], mode="area")
    return torch.cat([features, waves(places)], dim=1)
