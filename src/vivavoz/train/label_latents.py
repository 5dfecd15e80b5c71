"""Label latents: the animator's labels written as latents, so that decoder, encoder and generator can learn side by side.

A latent frame stands for four pictures, so for four rows of labels. A cosine transform along those four turns them into a level,
a slope and a bend; each is scaled to roughly unit variance and takes one channel, the same at every position. The first latent of
a stream stands for one picture: it has a level only (docs/adr/0006-label-latents.md).

Shapes: B batch, T = 1 + 4n frames, N = 1 + n latent frames, L labels, C_z latent channels, h w latent size.
"""

import math

import torch
from torch import Tensor, nn

from vivavoz.timing import FRAMES_PER_LATENT

GAINS = (0.5, 2.0, 3.0)
"""Scale of each cosine coefficient: 0.5 undoes the transform's gain for a constant; motion in 160 ms is small, so it grows."""


class LabelLatents(nn.Module):
    """The fixed linear map between labels and latents; nothing in it is trained."""

    def __init__(self, num_labels: int, latent_channels: int = 64) -> None:
        super().__init__()
        self.num_labels, self.latent_channels = num_labels, latent_channels
        steps = (torch.arange(FRAMES_PER_LATENT) + 0.5) * math.pi / FRAMES_PER_LATENT
        cosines = torch.stack([(order * steps).cos() for order in range(len(GAINS))])
        cosines *= torch.tensor([0.5, *[math.sqrt(0.5)] * (len(GAINS) - 1)])[:, None]  # orthonormal rows
        self.cosines: Tensor
        self.register_buffer("cosines", cosines, persistent=False)
        self.gains: Tensor
        self.register_buffer("gains", torch.tensor(GAINS), persistent=False)

    def forward(self, labels: Tensor, height: int, width: int) -> Tensor:
        """Normalised labels (B, T, L) -> latents (B, C_z, N, height, width)."""
        first = labels[:, :1]
        groups = labels[:, 1:].unflatten(1, (-1, FRAMES_PER_LATENT))  # B n 4 L
        later = torch.einsum("kf,bnfl->bnkl", self.cosines * self.gains[:, None], groups).flatten(2)
        first = torch.cat([first, first.new_zeros(*first.shape[:2], later.shape[2] - self.num_labels)], dim=2)
        z = torch.cat([first, later], dim=1)
        if z.shape[2] < self.latent_channels:
            z = nn.functional.pad(z, (0, self.latent_channels - z.shape[2]))
        return z[..., : self.latent_channels].transpose(1, 2)[..., None, None].expand(-1, -1, -1, height, width)

    def read(self, z: Tensor) -> Tensor:
        """Latents (B, C_z, N, h, w) -> the labels (B, T, L) they speak of: `forward` undone, for measuring a generator."""
        z = z.mean(dim=(3, 4)).transpose(1, 2)  # B N C
        num = len(GAINS) * self.num_labels
        z = nn.functional.pad(z, (0, max(0, num - z.shape[2])))[..., :num].unflatten(2, (len(GAINS), -1))
        later = torch.einsum("kf,bnkl->bnfl", self.cosines / self.gains[:, None], z[:, 1:]).flatten(1, 2)
        return torch.cat([z[:, :1, 0], later], dim=1)
