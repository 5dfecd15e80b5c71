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
from vivavoz.vae.encoder import ChannelAffine, Encoder, Posterior
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


@dataclass(frozen=True, slots=True)
class EncoderSamples:
    """What E2 learns from, S pictures; half precision, as there are many."""

    coarse: Tensor
    """(S, C, h, w) float16: E1's features at 1/16."""
    places: Tensor | None
    """(S, NUM_PLACES, H/2, W/2) float16: what the face map says, where there is one."""
    codes: Tensor
    """(S, K): the labels that are to be the codes."""

    def part(self, which: Tensor | slice) -> "EncoderSamples":
        """Some of them."""
        return EncoderSamples(self.coarse[which], None if self.places is None else self.places[which], self.codes[which])

    def __len__(self) -> int:
        return len(self.codes)


@torch.inference_mode()
def collect_samples(vae: VAE, batches: Iterable[Clips], num_batches: int) -> EncoderSamples:
    """What E1 and the face map see in every picture of some batches, and the labels.

    Raises:
        ConfigError: the VAE has no frame codes.
    """
    if not vae.config.frame_codes:
        raise ConfigError("labels can only be taught as frame codes, and this VAE has none: set VAEConfig.frame_codes")
    coarse, places, codes = [], [], []
    for _, clips in zip(range(num_batches), batches, strict=False):
        seen = vae.encoder.look(pictures(clips.frames).flatten(0, 1))
        coarse.append(seen.levels[-1].half())
        if seen.face is not None:
            places.append(seen.face.places.half())
        codes.append(clips.labels.flatten(0, 1)[:, : vae.config.frame_codes])
    return EncoderSamples(torch.cat(coarse).clone(), torch.cat(places).clone() if places else None, torch.cat(codes).clone())


class EncoderObjective(Objective[Tensor]):
    """The regression; a batch is the numbers (B,) of samples."""

    def __init__(self, encoder: Encoder, samples: EncoderSamples, settings: EncoderTraining) -> None:
        super().__init__()
        self.encoder, self.settings, self._samples = encoder, settings, samples
        encoder.e1.requires_grad_(False)
        if encoder.face_map is not None:
            encoder.face_map.requires_grad_(False)
        some = samples.coarse[:1024]
        if isinstance(encoder.e2.standard, ChannelAffine):  # a checkpoint to go on from brings its own
            encoder.e2.standard.fit_(some.unsqueeze(2))
        self._scale = settings.feature_noise * some.float().std(dim=(0, 2, 3))[:, None, None]

    @property
    def num_train(self) -> int:
        """Samples that are learnt from; those behind them are held back."""
        return round(len(self._samples) * (1 - self.settings.held_share))

    def batches(self, first_step: int) -> Iterator[Tensor]:
        """Random samples of every step."""
        for step in itertools.count(first_step):
            rng = torch.Generator().manual_seed(self.settings.loop.seed * 1_000_003 + step)
            yield torch.randint(self.num_train, (self.settings.batch_size,), generator=rng)

    def forward(self, batch: Tensor, step: Step) -> dict[str, Tensor]:
        """Distance to the codes, a likelihood that teaches the variance how far off the mean is, and the KL term."""
        settings, samples = self.settings, self._samples.part(batch)
        noise = self._scale * torch.randn(samples.coarse.shape, generator=step.rng)
        posterior = self._read(samples, noise)
        target = samples.codes[..., None, None, None].expand_as(posterior.mean)
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
        held = torch.arange(self.num_train, len(self._samples))[:_NUM_SHOWN]
        samples = self._samples.part(held if len(held) else batch[:_NUM_SHOWN])
        read = self._read(samples).mean.mean(dim=(2, 3, 4))
        return {"true_read_codes": tracks(samples.codes.T, read.T)}

    @torch.no_grad()
    def held_loss(self) -> Tensor:
        """The distance on samples that are held back."""
        total, count = torch.zeros(()), len(self._samples)
        for start in range(self.num_train, count, 64):
            samples = self._samples.part(slice(start, min(start + 64, count)))
            mean = self._read(samples).mean
            total += F.smooth_l1_loss(mean, samples.codes[..., None, None, None].expand_as(mean), beta=0.5) * len(samples)
        return total / max(1, count - self.num_train)

    def _read(self, samples: EncoderSamples, noise: Tensor | float = 0.0) -> Posterior:
        places = None if samples.places is None else samples.places.float()
        return self.encoder.encode_features(samples.coarse.float() + noise, places)
