"""Teaching the `lite` encoder to write labels as frame codes: E2 on features of an E1 that the decoder's training has shaped.

E1 learns from the decoder, which needs its view of the references to place lips and lids. By then E2's task is a small
regression, so E1 stays as it is, its features are computed once, and E2 sees them many times (docs/adr/0006-label-latents.md).

It holds for an encoder of single pictures (`VAEConfig.frame_codes`, and temporal kernels of 1, as in `lite`).

Shapes: C features of E1 at 1/16, h w their size, K codes; every picture is a sample of its own.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoz.errors import ConfigError
from vivavoz.train.clips import Clips, pictures
from vivavoz.train.loop import LoopConfig, Objective, Step
from vivavoz.train.sheets import Sheet, tracks
from vivavoz.vae.encoder import ChannelAffine, Encoder
from vivavoz.vae.vae import VAE

HELD_EVERY_STEPS = 250
"""How often the error on samples that are held back is measured."""


_NUM_SHOWN = 64


@dataclass(frozen=True, kw_only=True)
class EncoderTraining:
    """Settings of a run."""

    loop: LoopConfig
    batch_size: int = 48
    feature_noise: float = 0.1
    """Noise on the features, as a share of each channel's standard deviation: there are few people to learn from."""
    likelihood_weight: float = 0.1
    """Weight of the Gaussian likelihood that teaches the variance how far off the mean is."""
    kl_weight: float = 1e-3
    held_share: float = 0.1
    """Share of the samples, the last ones, that are only measured."""


@torch.inference_mode()
def collect_features(vae: VAE, batches: Iterable[Clips], num_batches: int) -> tuple[Tensor, Tensor]:
    """E1's features (S, C, h, w) float16, and the labels that are to be the codes (S, K), of every picture of some batches.

    Raises:
        ConfigError: the VAE has no frame codes.
    """
    if not vae.config.frame_codes:
        raise ConfigError("labels can only be taught as frame codes, and this VAE has none: set VAEConfig.frame_codes")
    features, targets = [], []
    for _, clips in zip(range(num_batches), batches, strict=False):
        video = pictures(clips.frames).transpose(1, 2)
        features.append(vae.encoder.features(video).transpose(1, 2).flatten(0, 1).half())
        targets.append(clips.labels.flatten(0, 1)[:, : vae.config.frame_codes])
    return torch.cat(features).clone(), torch.cat(targets).clone()


class EncoderObjective(Objective[Tensor]):
    """The regression; a batch is the numbers (B,) of samples."""

    def __init__(self, encoder: Encoder, features: Tensor, targets: Tensor, settings: EncoderTraining) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings
        encoder.e1.requires_grad_(False)
        self._features, self._targets = features, targets
        if isinstance(encoder.e2.standard, ChannelAffine):  # a checkpoint to go on from brings its own
            encoder.e2.standard.fit_(features[:1024].unsqueeze(2))
        self._scale = settings.feature_noise * features[:1024].float().std(dim=(0, 2, 3))[:, None, None]

    @property
    def num_train(self) -> int:
        """Samples that are learnt from; those behind them are held back."""
        return round(len(self._features) * (1 - self.settings.held_share))

    def batches(self, first_step: int) -> Iterator[Tensor]:
        """Random samples of every step."""
        for step in itertools.count(first_step):
            rng = torch.Generator().manual_seed(self.settings.loop.seed * 1_000_003 + step)
            yield torch.randint(self.num_train, (self.settings.batch_size,), generator=rng)

    def forward(self, batch: Tensor, step: Step) -> dict[str, Tensor]:
        """Distance to the codes, a likelihood that teaches the variance how far off the mean is, and the KL term."""
        settings = self.settings
        x = self._features[batch].float()
        posterior = self.encoder.encode_features(x + self._scale * torch.randn(x.shape, generator=step.rng))
        target = self._targets[batch][..., None, None, None].expand_as(posterior.mean)
        losses = {
            "code": F.smooth_l1_loss(posterior.mean, target, beta=0.5),
            "likelihood": settings.likelihood_weight
            * F.gaussian_nll_loss(posterior.mean.detach(), target, posterior.log_variance.exp()),
            "kl": settings.kl_weight * posterior.kl(),
        }
        if (step.index + 1) % HELD_EVERY_STEPS == 0:
            losses["held_code"] = self.held_loss()
        return losses

    def show(self, batch: Tensor) -> dict[str, Sheet]:
        """Codes of some samples that are held back (of the batch, where none are), true and read."""
        held = torch.arange(self.num_train, len(self._features))[:_NUM_SHOWN]
        chosen = held if len(held) else batch[:_NUM_SHOWN]
        read = self.encoder.encode_features(self._features[chosen].float()).mean.mean(dim=(2, 3, 4))
        return {"true_read_codes": tracks(self._targets[chosen].T, read.T)}

    @torch.no_grad()
    def held_loss(self) -> Tensor:
        """The distance on samples that are held back."""
        features, targets = self._features[self.num_train :], self._targets[self.num_train :]
        total = torch.zeros(())
        for x, target in zip(features.split(64), targets.split(64), strict=True):
            mean = self.encoder.encode_features(x.float()).mean
            total += F.smooth_l1_loss(mean, target[..., None, None, None].expand_as(mean), beta=0.5) * len(x)
        return total / max(1, len(features))
