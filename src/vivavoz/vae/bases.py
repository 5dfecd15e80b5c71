"""Fields that a person's picture moves along: a first-order rig, read off every reference once per session.

A face's small parts move nearly in proportion to what a code says: an iris to the gaze, an eyelid to how far the eye is open.
The warp's convolutions are told the code everywhere alike, and have to find out by themselves where it matters. Here it is said
in the form of blend shapes: for some of the codes, a field over the reference, of which each picture takes as much as its code
differs from the reference's. Zero at first, and zero for the reference itself.

Shapes: R references, B rows, M references of a row, C channels, K codes with a basis, T frames, h w the fields' size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.nn.conv import ResBlock
from vivavoz.nn.norm import ChannelRMSNorm

_WIDTH = 24


class MotionBases(nn.Module):
    """A few convolutions over a reference's features at the fields' size.

    Args:
        num_channels: of these features.
        num_bases: K.
    """

    def __init__(self, num_channels: int, num_bases: int) -> None:
        super().__init__()
        # Features as they are have large constant channels, beside which later norms would see nothing.
        self.standardise = nn.InstanceNorm2d(num_channels)
        self.conv_in = nn.Conv2d(num_channels, _WIDTH, 3, padding=1)
        self.blocks = nn.Sequential(ResBlock(_WIDTH), ResBlock(_WIDTH))
        self.norm_out = ChannelRMSNorm(_WIDTH)
        self.conv_out = nn.Conv2d(_WIDTH, 2 * num_bases, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def read(self, features: Tensor) -> Tensor:
        """(R, C, h, w) -> bases (R, 4K, h, w): x and y of every one, in cells of the fields for 1 of the code; those for more of
        it than the reference has, then those for less.

        As they are read both are the same. They part where a person's are learnt (`vivavoz.train.personal`): lips that close
        over teeth do not do the reverse of lips that open before them.
        """
        x = self.blocks(self.conv_in(self.standardise(features)))
        found: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return torch.cat([found, found], dim=1)

    @torch.no_grad()
    def amplify(self, basis: int, gain: float) -> None:
        """Let the basis of that number, of K, move everything `gain` times as far."""
        for weights in self.conv_out.parameters():
            weights[2 * basis : 2 * basis + 2] *= gain

    def forward(self, bases: Tensor, amounts: Tensor) -> Tensor:
        """Of each basis as much as `amounts` (R, K, T) says: a field for every frame, (R, 2, T, h, w).

        They are added up before they are brought to a frame's places: two channels are quicker to fetch than 2K.
        """
        height, width = bases.shape[-2:]
        sides = torch.cat([amounts.clamp(min=0), amounts.clamp(max=0)], dim=1)  # R 2K T
        mixed = torch.bmm(sides.transpose(1, 2), bases.reshape(len(bases), sides.shape[1], -1))  # R T 2hw
        return mixed.unflatten(2, (2, height, width)).transpose(1, 2)


def amounts_of(codes: Tensor, reference_codes: Tensor, chosen: tuple[int, ...]) -> Tensor:
    """How far the chosen codes of frames are from the references': codes (B, C, T, h, w), of references (B, M, C, h, w) ->
    (B*M, K, T), means over the places."""

    def of_chosen(x: Tensor, dim: int) -> Tensor:  # indices in a list would have to be copied to a GPU, which ends a recording
        return torch.stack([x.select(dim, code) for code in chosen], dim=dim)

    frames = of_chosen(codes.mean(dim=(3, 4)), dim=1)  # B K T
    references = of_chosen(reference_codes.mean(dim=(3, 4)), dim=2)  # B M K
    return (frames.unsqueeze(1) - references.unsqueeze(3)).flatten(0, 1)
