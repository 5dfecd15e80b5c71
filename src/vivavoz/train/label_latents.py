"""Label latents: the animator's labels written as latents, so that decoder, encoder and generator can learn side by side.

The labels of a picture take the place of its codes (`vivavoz.vae.frame_codes`), the same at every position
(docs/adr/0006-label-latents.md).

Shapes: B batch, T = 1 + 4n frames, N = 1 + n latent frames, L labels, C_z latent channels, h w latent size.
"""

from torch import Tensor, nn

from vivavoz.vae.frame_codes import FrameCodes


class LabelLatents(nn.Module):
    """The fixed linear map between labels and latents; nothing in it is trained."""

    def __init__(self, num_labels: int, latent_channels: int = 64) -> None:
        super().__init__()
        self.num_labels, self.latent_channels = num_labels, latent_channels
        self.codes = FrameCodes(num_labels, latent_channels)

    def forward(self, labels: Tensor, height: int, width: int) -> Tensor:
        """Normalised labels (B, T, L) -> latents (B, C_z, N, height, width)."""
        return self.codes.pack(labels.transpose(1, 2)[..., None, None]).expand(-1, -1, -1, height, width)

    def read(self, z: Tensor) -> Tensor:
        """Latents (B, C_z, N, h, w) -> the labels (B, T, L) they speak of: `forward` undone, for measuring a generator."""
        return self.codes.unpack(z.mean(dim=(3, 4), keepdim=True))[..., 0, 0].transpose(1, 2)
