"""Training a video VAE as published (paper 3.1, equation 2): rebuild clips from their latents and a few pictures of the person.

Works for every preset; `lite` has aids of its own in `vae_training`.

Shapes: B clips, T frames (1 + 4n), M references, S side in px.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoz.data.shards.reading import WindowBatch
from vivavoz.errors import ConfigError
from vivavoz.flow.noise import gaussian_like
from vivavoz.train.clips import pictures
from vivavoz.train.loop import Objective, Step
from vivavoz.train.perceptual import Perceptual
from vivavoz.train.sheets import Sheet, film
from vivavoz.vae.encoder import Posterior
from vivavoz.vae.vae import VAE


@dataclass(frozen=True, kw_only=True)
class VideoTraining:
    """Settings of the objective. The paper names the terms and gives no weights; the defaults are ours."""

    l1_weight: float = 1.0
    """`lambda_1`."""
    perceptual_weight: float = 1.0
    """`lambda_2`; 0: no perceptual term."""
    perceptual_frames: int = 0
    """Frames of a clip that the perceptual term looks at, drawn anew in each step; 0: all. It costs much memory."""
    kl_weight: float = 1e-4
    """Of the divergence from N(0, 1), averaged over the latent's elements: enough to keep latents near unit size."""


class VideoObjective(Objective[WindowBatch]):
    """The VAE on windows of clips with references of the same person."""

    def __init__(self, vae: VAE, settings: VideoTraining, perceptual: Perceptual, *, size_px: int) -> None:
        """`size_px`: side of the pictures that the VAE sees; the batches' are made smaller if need be."""
        super().__init__()
        if size_px % vae.config.spatial_factor:
            raise ConfigError(f"got pictures of {size_px} px, expected a multiple of {vae.config.spatial_factor}")
        self.vae, self.settings, self.perceptual, self.size_px = vae, settings, perceptual, size_px

    def forward(self, batch: WindowBatch, step: Step) -> dict[str, Tensor]:
        """L1, the perceptual term under its own name, and KL, each with its weight."""
        settings = self.settings
        video = self._seen(batch.frames).transpose(1, 2)
        references = self.vae.encode_references(self._seen(batch.references))
        posterior = self.vae.encode(video)
        posterior = Posterior(posterior.mean.float(), posterior.log_variance.float())
        noise = gaussian_like(posterior.mean, step.rng)
        z = posterior.mean + torch.exp(0.5 * posterior.log_variance) * noise
        rebuilt = self.vae.decode(z, references).float()
        losses = {"l1": settings.l1_weight * (rebuilt - video).abs().mean(), "kl": settings.kl_weight * posterior.kl()}
        if settings.perceptual_weight:
            chosen = self._chosen(video.shape[2], step.rng).to(video.device)
            pair = (frames[:, :, chosen].transpose(1, 2).flatten(0, 1) for frames in (rebuilt, video))
            losses[self.perceptual.name] = settings.perceptual_weight * self.perceptual.distance(*pair)
        return losses

    def show(self, batch: WindowBatch) -> dict[str, Sheet]:
        """For two clips: the references, the frames, and the frames rebuilt from the posterior's mean."""
        rows: list[Tensor] = []
        references, video = (self._seen(images[:2]) for images in (batch.references, batch.frames))
        rebuilt = self.vae.decode(self.vae.encode(video.transpose(1, 2)).mean, self.vae.encode_references(references))
        for clip in range(len(video)):
            rows += [references[clip], video[clip], rebuilt[clip].transpose(0, 1)]
        return {"references_frames_rebuilt": film([row for row in rows if len(row)])}

    def _seen(self, images: Tensor) -> Tensor:
        """uint8 (B, N, S, S, 3) to float (B, N, 3, S', S') on the model's device."""
        shown = pictures(images.to(next(self.parameters()).device))
        if shown.shape[-1] == self.size_px or shown.shape[1] == 0:
            return shown[..., : self.size_px, : self.size_px]
        return F.interpolate(shown.flatten(0, 1), (self.size_px, self.size_px), mode="area").unflatten(0, shown.shape[:2])

    def _chosen(self, num_frames: int, rng: torch.Generator) -> Tensor:
        count = min(self.settings.perceptual_frames or num_frames, num_frames)
        return torch.randperm(num_frames, generator=rng)[:count]
