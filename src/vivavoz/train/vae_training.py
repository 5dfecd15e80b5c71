"""Training the `lite` VAE in one process: decoder on label latents, encoder towards them, then both together on pixels.

Three things are learnt in every step, their shares shifting over the run (docs/adr/0006-label-latents.md):
the decoder decodes latents made from the animator's labels, with the true flow and mask as extra targets; the encoder regresses
those latents from the frames; and, more and more often, the decoder decodes what the encoder gives, with the loss of the paper's
equation 2 beside the animator's truth, which tells the encoder how far off its pictures are.
"""

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from vivavoz.data.rig_labels import LABELS
from vivavoz.errors import ConfigError
from vivavoz.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from vivavoz.train.clips import AnimatedClips, Clips, pictures
from vivavoz.train.label_latents import LabelLatents
from vivavoz.train.losses import choice_error, flow_error, gradient_l1, mask_error, paint_error, place_error, weighted_l1
from vivavoz.vae.encoder import Posterior
from vivavoz.vae.vae import VAE
from vivavoz.vae.warp import ReferenceWarp, compose


@dataclass(frozen=True, kw_only=True)
class VAETraining:
    """Settings of a run; the run lasts `budget_s` seconds of training, however many steps that gives."""

    budget_s: float
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    label_noise: float = 0.05
    """Standard deviation of the noise on label latents, so that the decoder forgives small errors."""
    bias_noise: float = 0.3
    """The same of what is added to all latents of a person alike: the encoder misjudges a face the same way in every picture, so
    only the difference of two pictures can be relied on."""
    joint_start: float = 0.45
    """Share of the budget after which the encoder's own latents begin to be decoded."""
    joint_odds: float = 0.5
    """How often they are, at the end."""
    encoder_every: int = 3
    """The encoder learns from every n-th batch (and from those it takes part in jointly): it learns faster than the decoder."""
    freeze_e1: bool = False
    """Leave E1 as it is, where E2 learns from features of it at the same time."""
    mouth_weight: float = 12.0
    eye_weight: float = 5.0
    pixel_weight: float = 1.0
    """Scale of the two losses on pixels. 0 at first: until flows are right to a pixel or two, pixels only add noise."""
    l1_weight: float = 6.0
    gradient_weight: float = 12.0
    flow_weight: float = 0.6
    mask_weight: float = 0.4
    paint_weight: float = 1.0
    choice_weight: float = 4.0
    """Of trusting the wrong one of several references."""
    place_weight: float = 0.5
    """The references' fine features are to tell where on a face they are: a linear probe reads it, and is thrown away."""
    latent_weight: float = 1.0
    kl_weight: float = 1e-4
    save_every_s: float = 120.0


def encode(vae: VAE, clips: Clips) -> Posterior:
    """The encoder's view of a batch."""
    return vae.encode(pictures(clips.frames).transpose(1, 2))


def decoder_loss(
    vae: VAE,
    probe: nn.Module,
    clips: Clips,
    z: Tensor,
    settings: VAETraining,
    *,
    reference_latents: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of decoding z (B, C_z, N, h, w) against the clips' frames, and of its fields against the animator's.

    `probe` reads places on the face from a reference's fine features; `reference_latents` (P, M, C_z, h, w) stand in for the
    encoder's own.
    """
    frames = pictures(clips.frames).transpose(1, 2)
    references = vae.encode_references(pictures(clips.references), latents=reference_latents)
    fine = None if references.warp is None else references.warp[-1].flatten(0, 1)
    references = references.repeat(frames.shape[0] // references.latents.shape[0])
    fields = vae.warp_fields(z, references)
    region = clips.region
    small = 1 + (settings.eye_weight - 1) * (region == 1) + (settings.mouth_weight - 1) * (region == 2)
    parts = {}
    if settings.pixel_weight:
        video = compose(fields, references.photos, (int(frames.shape[-2]), int(frames.shape[-1])))
        weight = small.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
        parts["l1"] = settings.pixel_weight * settings.l1_weight * weighted_l1(video, frames, weight)
        parts["gradient"] = settings.pixel_weight * settings.gradient_weight * gradient_l1(video, frames, weight)
    if references.num_references:
        parts["flow"] = settings.flow_weight * flow_error(fields, clips.flow, small * (1 - clips.mask))
        # Further references may show what the portrait cannot: then the mask is for the pixels to decide.
        certain = small if references.num_references == 1 else small * (1 - 0.8 * clips.mask)
        parts["mask"] = settings.mask_weight * mask_error(fields, clips.mask, certain)
        if references.num_references > 1 and references.photos is not None:
            choice = choice_error(fields, references.photos, frames, small * (1 - clips.mask))
            parts["choice"] = settings.choice_weight * choice
        parts["paint"] = settings.paint_weight * paint_error(fields, frames, clips.mask)
    if fine is not None:
        parts["place"] = settings.place_weight * place_error(probe(fine), clips.reference_uv.flatten(0, 1))
    return torch.stack(list(parts.values())).sum(), {name: float(value.detach()) for name, value in parts.items()}


def label_references(latents: LabelLatents, clips: Clips, side: int) -> Tensor:
    """Label latents of the references, each a single frame: (P, M, C_z, side, side)."""
    people, count, _ = clips.reference_labels.shape
    return latents(clips.reference_labels.flatten(0, 1).unsqueeze(1), side, side).squeeze(2).unflatten(0, (people, count))


def noised(latents: Tensor, deviation: float, rng: torch.Generator) -> Tensor:
    """Latents (..., h, w) with noise that is the same at all their places."""
    return latents + deviation * torch.randn(latents[..., :1, :1].shape, generator=rng)


def latent_loss(posterior: Posterior, target: Tensor, settings: VAETraining) -> Tensor:
    """Distance of the encoder's mean to the label latents, and the KL term of the paper, which holds the variance."""
    return settings.latent_weight * F.smooth_l1_loss(posterior.mean, target, beta=0.5) + settings.kl_weight * posterior.kl()


def compile_convolutions(vae: VAE) -> None:
    """Let a compiler fuse what lies between the convolutions, where most of the time goes; takes a minute or two per shape."""
    vae.encoder.e1.pyramid = torch.compile(vae.encoder.e1.pyramid, dynamic=False)  # type: ignore[method-assign]
    vae.head.compile(dynamic=False)
    if isinstance(vae.head, ReferenceWarp):
        vae.head.pyramid.compile(dynamic=False)


def train_vae(
    vae: VAE,
    data: AnimatedClips,
    settings: VAETraining,
    folder: Path,
    *,
    compile_model: bool = False,
    num_workers: int = 1,
    report: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Train until the budget is spent; resumes from `folder/vae.pt`, and logs a JSON line every 20 steps to `folder/vae.jsonl`.

    `report` is handed every line of the log as it is written: `step`, `seconds`, and the mean of each loss since the last.
    """
    if settings.pixel_weight == 0 and data.config.reference_odds[0] > 0:
        raise ConfigError(
            "pixel_weight 0 leaves nothing to learn from clips without references: set the first of reference_odds to 0"
        )
    folder.mkdir(parents=True, exist_ok=True)
    latents = LabelLatents(len(LABELS), vae.config.latent_channels)
    vae.encoder.e1.requires_grad_(not settings.freeze_e1)
    probe = nn.Conv2d(vae.config.decoder2_channels[2], 3, 1)
    modules: dict[str, nn.Module] = {"vae": vae, "probe": probe}
    parameters = [*vae.parameters(), *probe.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay, fused=True
    )
    progress = load_checkpoint(folder / "vae.pt", modules, optimizer)
    step, spent, saved = progress.step, progress.seconds, progress.seconds
    loader = iter(DataLoader(data, batch_size=None, num_workers=num_workers, prefetch_factor=4 if num_workers else None))
    sums: dict[str, list[float]] = defaultdict(list)
    random = torch.Generator().manual_seed(step)
    if compile_model:
        compile_convolutions(vae)
    side = data.config.size // 64
    while spent < settings.budget_s:
        begin = time.monotonic()
        clips = next(loader)
        share = spent / settings.budget_s
        rate = (
            settings.learning_rate
            * min(1.0, (step + 1) / settings.warmup_steps)
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        target = latents(clips.labels, side, side)
        odds = settings.joint_odds * max(0.0, (share - settings.joint_start) / (1 - settings.joint_start))
        joint = float(torch.rand((), generator=random)) < odds
        loss = torch.zeros(())
        known = label_references(latents, clips, side)
        bias = settings.bias_noise * torch.randn(known.shape[0], 1, latents.num_labels, 1, 1, generator=random)
        bias = F.pad(bias, (0, 0, 0, 0, 0, latents.latent_channels - latents.num_labels))
        known = noised(known + bias, settings.label_noise, random)
        per_person = target.shape[0] // known.shape[0]
        z = noised(target + bias.transpose(1, 2).repeat_interleave(per_person, dim=0), settings.label_noise, random)
        if joint or (step + 1) % settings.encoder_every == 0:
            posterior = encode(vae, clips)
            loss = latent_loss(posterior, target, settings)
            sums["latent"].append(float(loss.detach()))
            if joint:
                z = noised(posterior.mean, settings.label_noise, random)
        pixel_loss, parts = decoder_loss(vae, probe, clips, z, settings, reference_latents=None if joint else known)
        (loss + pixel_loss).backward()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_clip))
        if math.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for name, value in {**parts, "norm": norm}.items():
            sums[name].append(value)
        step, spent = step + 1, spent + time.monotonic() - begin
        if step % 20 == 0:
            line = {"step": step, "seconds": round(spent, 1), **{name: sum(v) / len(v) for name, v in sums.items()}}
            sums.clear()
            with (folder / "vae.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            if report is not None:
                report(line)
        if spent - saved > settings.save_every_s:
            saved = spent
            save_checkpoint(folder / "vae.pt", Progress(step, spent), modules, optimizer)
    save_checkpoint(folder / "vae.pt", Progress(step, spent), modules, optimizer)
