"""Teaching the `lite` encoder to write labels as frame codes: E2 on features of an E1 that the decoder's training has shaped.

E1 learns from the decoder, which needs its view of the references to place lips and lids. By then E2's task is a small
regression, so E1 stays as it is, its features are computed once, and E2 sees them many times (docs/adr/0006-label-latents.md).

It holds for an encoder of single pictures (`VAEConfig.frame_codes`, and temporal kernels of 1, as in `lite`).

Shapes: C features of E1 at 1/16, h w their size, K codes; every picture is a sample of its own.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoz.errors import ConfigError
from vivavoz.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from vivavoz.train.clips import Clips, pictures
from vivavoz.vae.encoder import ChannelAffine
from vivavoz.vae.vae import VAE


@dataclass(frozen=True, kw_only=True)
class EncoderTraining:
    """Settings of a run; it lasts `budget_s` seconds of training."""

    budget_s: float
    batch_size: int = 48
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    feature_noise: float = 0.1
    """Noise on the features, as a share of each channel's standard deviation: there are few people to learn from."""
    likelihood_weight: float = 0.1
    """Weight of the Gaussian likelihood that teaches the variance how far off the mean is."""
    kl_weight: float = 1e-3
    held_share: float = 0.1
    """Share of the samples, the last ones, that are only measured."""
    save_every_s: float = 120.0


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


def train_encoder(
    vae: VAE,
    features: Tensor,
    targets: Tensor,
    settings: EncoderTraining,
    folder: Path,
    *,
    report: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Train E2 on features and targets; resumes from `folder/encoder.pt` and logs to `folder/encoder.jsonl`.

    `report` is handed every line of the log as it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    e2 = vae.encoder.e2
    optimizer = torch.optim.AdamW(e2.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    progress = load_checkpoint(folder / "encoder.pt", {"e2": e2}, optimizer)
    step, spent, saved = progress.step, progress.seconds, progress.seconds
    num_train = round(len(features) * (1 - settings.held_share))
    if step == 0 and isinstance(e2.standard, ChannelAffine):
        e2.standard.fit_(features[:1024].unsqueeze(2))
    scale = settings.feature_noise * features[:1024].float().std(dim=(0, 2, 3))[:, None, None]
    rng = torch.Generator().manual_seed(step)
    losses: list[float] = []
    while spent < settings.budget_s:
        begin = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, (step + 1) / 50) * (1.02 - spent / settings.budget_s)
        index = torch.randint(num_train, (settings.batch_size,), generator=rng)
        x = features[index].float()
        posterior = vae.encoder.encode_features(x + scale * torch.randn(x.shape, generator=rng))
        target = targets[index][..., None, None, None].expand_as(posterior.mean)
        error = F.smooth_l1_loss(posterior.mean, target, beta=0.5)
        likelihood = F.gaussian_nll_loss(posterior.mean.detach(), target, posterior.log_variance.exp())
        (error + settings.likelihood_weight * likelihood + settings.kl_weight * posterior.kl()).backward()
        torch.nn.utils.clip_grad_norm_(e2.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(error.detach()))
        step, spent = step + 1, spent + time.monotonic() - begin
        if step % 50 == 0:
            line = {"step": step, "seconds": round(spent, 1), "loss": sum(losses) / len(losses)}
            if step % 250 == 0:
                line["held_loss"] = held_loss(vae, features[num_train:], targets[num_train:])
            losses.clear()
            with (folder / "encoder.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            if report is not None:
                report(line)
        if spent - saved > settings.save_every_s:
            saved = spent
            save_checkpoint(folder / "encoder.pt", Progress(step, spent), {"e2": e2}, optimizer)
    save_checkpoint(folder / "encoder.pt", Progress(step, spent), {"e2": e2}, optimizer)


@torch.no_grad()
def held_loss(vae: VAE, features: Tensor, targets: Tensor) -> float:
    """The regression's error on samples it does not train on."""
    total = 0.0
    for x, target in zip(features.split(64), targets.split(64), strict=True):
        mean = vae.encoder.encode_features(x.float()).mean
        total += float(F.smooth_l1_loss(mean, target[..., None, None, None].expand_as(mean), beta=0.5)) * len(x)
    return total / len(features)
