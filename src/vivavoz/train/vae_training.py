"""Training the `lite` VAE: decoder on label latents, encoder towards them, then both together on pixels.

Three things can be learnt in a step (docs/adr/0006-label-latents.md): the decoder decodes latents made from the animator's
labels, with the true flow and mask as extra targets; the encoder regresses those latents from the frames; and the decoder decodes
what the encoder gives, which tells the encoder how far off its pictures are. Of filmed clips there is no truth, so only the last
of these is left.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoz.errors import ConfigError
from vivavoz.rig.labels import LABELS
from vivavoz.train.clips import EYES, IRISES, MOUTH, Clips, pictures
from vivavoz.train.filmed_clips import FilmedClips
from vivavoz.train.label_latents import LabelLatents
from vivavoz.train.loop import LoopConfig, Objective, Step
from vivavoz.train.losses import choice_error, flow_error, gradient_l1, mask_error, paint_error, weighted_l1
from vivavoz.train.perceptual import Perceptual
from vivavoz.train.sheets import Sheet, film, flow_colours, grey
from vivavoz.vae.encoder import Posterior
from vivavoz.vae.vae import VAE, References
from vivavoz.vae.warp import WarpFields, compose


@dataclass(frozen=True, kw_only=True)
class VAETraining:
    """Settings of a run."""

    loop: LoopConfig
    label_noise: float = 0.05
    """Standard deviation of the noise on label latents, so that the decoder forgives small errors."""
    bias_noise: float = 0.3
    """The same of what is added to all latents of a person alike: the encoder misjudges a face the same way in every picture, so
    only the difference of two pictures can be relied on."""
    joint_odds: float = 0.0
    """How often the encoder's own latents are decoded."""
    relayed_odds: float = 0.0
    """How often, of these, only the references' latents are the encoder's own, and the frames' are labels, off by a share of
    what those of the first reference are: what a generator writes."""
    told: tuple[str, ...] = ()
    """Labels that the encoder reads badly: they are relayed in all frames, or the decoder learns to do little about them."""
    encoder_every: int = 0
    """The encoder learns from every n-th batch, and from those it takes part in jointly; 0: from these alone."""
    freeze_e1: bool = False
    """Leave E1 as it is, where E2 learns from features of it at the same time."""
    bases_alone: bool = False
    """Train the warp's bases only, as the rest is: cheap, and nothing else is forgotten."""
    mouth_weight: float = 12.0
    eye_weight: float = 5.0
    iris_weight: float = 30.0
    """They are small, and where somebody looks is seen at once."""
    pixel_weight: float = 1.0
    """Scale of the two losses on pixels. 0 at first: until flows are right to a pixel or two, pixels only add noise."""
    l1_weight: float = 6.0
    gradient_weight: float = 12.0
    perceptual_weight: float = 1.0
    """Of the perceptual distance of whole pictures; see `vivavoz.train.perceptual`. Scaled like the other losses on pixels."""
    flow_weight: float = 0.6
    mask_weight: float = 0.4
    paint_weight: float = 1.0
    choice_weight: float = 4.0
    """Of trusting the wrong one of several references."""
    latent_weight: float = 1.0
    kl_weight: float = 1e-4

    def __post_init__(self) -> None:
        """Raise ConfigError for what is told and no label."""
        if unknown := [name for name in self.told if name not in LABELS]:
            raise ConfigError(f"told has {', '.join(unknown)}, expected labels, some of {', '.join(LABELS)}: change it")


def encode(vae: VAE, clips: Clips | FilmedClips) -> Posterior:
    """The encoder's view of a batch."""
    return vae.encode(pictures(clips.frames).transpose(1, 2))


def decoder_losses(
    vae: VAE,
    clips: Clips,
    z: Tensor,
    references: References,
    settings: VAETraining,
    perceptual: Perceptual | None = None,
) -> dict[str, Tensor]:
    """Losses of decoding z (B, C_z, N, h, w) against the clips' frames, and of its fields against the animator's.

    `references` have a row for every person.
    """
    frames = pictures(clips.frames).transpose(1, 2)
    references = references.repeat(frames.shape[0] // references.latents.shape[0])
    fields = vae.warp_fields(z, references).float()
    small = _weight(clips.region, settings)
    parts: dict[str, Tensor] = {}
    if settings.pixel_weight:
        parts |= pixel_losses(fields, references, frames, small, settings, perceptual)
    if references.num_references:
        # Further references may show what the portrait cannot: how far is for the pixels to decide.
        others = references.num_references - 1
        shown = torch.cat([1 - clips.mask, *[1 - 0.5 * clips.mask] * others], dim=1)
        parts["flow"] = settings.flow_weight * flow_error(fields, clips.flow, small * shown)
        certain = small * (1 - 0.8 * clips.mask) if others else small
        parts["mask"] = settings.mask_weight * mask_error(fields, clips.mask, certain)
        if others and references.photos is not None:
            choice = choice_error(fields, references.photos, frames, small)
            parts["choice"] = settings.choice_weight * choice
        parts["paint"] = settings.paint_weight * paint_error(fields, frames, clips.mask)
    return parts


def filmed_losses(
    vae: VAE,
    clips: FilmedClips,
    z: Tensor,
    references: References,
    settings: VAETraining,
    perceptual: Perceptual | None = None,
) -> dict[str, Tensor]:
    """Losses of decoding z against filmed frames: those on pixels, and, of several references, the choice between them."""
    frames = pictures(clips.frames).transpose(1, 2)
    fields = vae.warp_fields(z, references).float()
    small = _weight(clips.region, settings)
    parts = pixel_losses(fields, references, frames, small, settings, perceptual)
    if references.num_references > 1 and references.photos is not None:
        parts["choice"] = settings.choice_weight * choice_error(fields, references.photos, frames, small)
    return {f"filmed_{name}": part for name, part in parts.items()}


def pixel_losses(
    fields: WarpFields,
    references: References,
    frames: Tensor,
    weight: Tensor,
    settings: VAETraining,
    perceptual: Perceptual | None,
) -> dict[str, Tensor]:
    """Losses of the pictures that fields give, against frames (B, 3, T, H, W); `weight` (B, 1, T, H/2, W/2) says what counts."""
    video = compose(fields, references.photos, (int(frames.shape[-2]), int(frames.shape[-1])))
    weight = weight.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    parts = {
        "l1": settings.pixel_weight * settings.l1_weight * weighted_l1(video, frames, weight),
        "gradient": settings.pixel_weight * settings.gradient_weight * gradient_l1(video, frames, weight),
    }
    if perceptual is not None:
        distance = perceptual.distance(*(x.transpose(1, 2).flatten(0, 1) for x in (video, frames)))
        parts[perceptual.name] = settings.pixel_weight * settings.perceptual_weight * distance
    return parts


def _weight(region: Tensor, settings: VAETraining) -> Tensor:
    """How much every place counts, by its region (B, 1, T, h, w)."""
    weights = {EYES: settings.eye_weight, MOUTH: settings.mouth_weight, IRISES: settings.iris_weight}
    return torch.stack([(weight - 1) * (region == part) for part, weight in weights.items()]).sum(dim=0) + 1


def label_references(latents: LabelLatents, clips: Clips, side: int) -> Tensor:
    """Label latents of the references, each a single frame: (P, M, C_z, side, side)."""
    people, count, _ = clips.reference_labels.shape
    return latents(clips.reference_labels.flatten(0, 1).unsqueeze(1), side, side).squeeze(2).unflatten(0, (people, count))


def noised(latents: Tensor, deviation: float, rng: torch.Generator) -> Tensor:
    """Latents (..., h, w) with noise that is the same at all their places."""
    return latents + deviation * torch.randn(latents[..., :1, :1].shape, generator=rng).to(latents)


def relayed(target: Tensor, references: Tensor, known: Tensor, share: Tensor) -> Tensor:
    """Label latents of frames (P*K, C_z, N, h, w), off by a share of what the encoder's latents of their
    person's first reference are.

    `references` are the encoder's and `known` the label latents of the references, (P, M, C_z, h, w) with M > 0; `share`
    (P, C_z) is in [0, 1]: a generator takes some things as the reference has them, and says others as they are.
    """
    bias = (references[:, 0] - known[:, 0]).detach().mean(dim=(2, 3), keepdim=True) * share[..., None, None]
    return target + bias.repeat_interleave(target.shape[0] // bias.shape[0], dim=0).unsqueeze(2)


def latent_loss(posterior: Posterior, target: Tensor, settings: VAETraining) -> Tensor:
    """Distance of the encoder's mean to the label latents, and the KL term of the paper, which holds the variance."""
    return settings.latent_weight * F.smooth_l1_loss(posterior.mean, target, beta=0.5) + settings.kl_weight * posterior.kl()


class VAEObjective(Objective[Clips | FilmedClips]):
    """Decoder and encoder side by side, or together; on filmed clips always together."""

    def __init__(self, vae: VAE, settings: VAETraining, perceptual: Perceptual | None = None) -> None:
        super().__init__()
        self.vae, self.settings, self.perceptual = vae, settings, perceptual
        vae.requires_grad_(not settings.bases_alone)
        if settings.bases_alone:
            if vae.bases is None:
                raise ConfigError("bases_alone: this VAE has no bases; name some codes in warp.basis_codes, or train it whole")
            vae.bases.requires_grad_(True)
        else:
            vae.encoder.e1.requires_grad_(not settings.freeze_e1)
        if vae.encoder.face_map is not None:  # it has learnt what it can learn; pixels would make it forget
            vae.encoder.face_map.requires_grad_(False)
        self.latents = LabelLatents(len(LABELS), vae.config.latent_channels)
        self.told = torch.tensor([name in settings.told for name in LABELS])

    def forward(self, batch: Clips | FilmedClips, step: Step) -> dict[str, Tensor]:
        """See the head of this file."""
        settings, shown = self.settings, pictures(batch.references)
        if isinstance(batch, FilmedClips):
            z = noised(encode(self.vae, batch).mean, settings.label_noise, step.rng)
            return filmed_losses(self.vae, batch, z, self.vae.encode_references(shown), settings, self.perceptual)
        side = batch.frames.shape[2] // self.vae.config.spatial_factor
        losses: dict[str, Tensor] = {}
        target, known = self.latents(batch.labels, side, side), label_references(self.latents, batch, side)
        joint = float(torch.rand((), generator=step.rng)) < settings.joint_odds
        alone = settings.encoder_every and (step.index + 1) % settings.encoder_every == 0
        z, misjudged = self._misjudged(target, known, step.rng)
        references = self.vae.encode_references(shown, latents=None if joint else misjudged)
        if joint or alone:
            posterior = encode(self.vae, batch)
            losses["latent"] = latent_loss(posterior, target, settings)
            if joint:
                z = self._joint_latents(posterior.mean, target, references, known, step.rng)
        return losses | decoder_losses(self.vae, batch, z, references, settings, self.perceptual)

    def show(self, batch: Clips | FilmedClips) -> dict[str, Sheet]:
        """Of the last frame of every animated clip: the first reference, the frame, and it rebuilt from the encoder's latents and
        from labels; the flow to the reference and the painted layer's mask, the animator's and the model's."""
        if isinstance(batch, FilmedClips):
            return {}
        side, repeats = batch.frames.shape[2] // self.vae.config.spatial_factor, len(batch.frames) // len(batch.references)
        frames, known = pictures(batch.frames), label_references(self.latents, batch, side)
        shown, true_flow = pictures(batch.references), batch.flow
        rows = [] if shown.shape[1] == 0 else [shown[:, 0].repeat_interleave(repeats, dim=0)]
        rows.append(frames[:, -1])
        for z, latents in ((encode(self.vae, batch).mean, None), (self.latents(batch.labels, side, side), known)):
            references = self.vae.encode_references(shown, latents=latents).repeat(repeats)
            fields = self.vae.warp_fields(z, references).float()
            rows.append(compose(fields, references.photos, (int(frames.shape[-2]), int(frames.shape[-1])))[:, :, -1])
        if true_flow.shape[1]:
            rows += [flow_colours(flow[:, 0, :, -1]) for flow in (true_flow, fields.flow)]
        rows += [grey(batch.mask[:, :, -1]), grey(fields.mask[:, :, -1].sigmoid())]
        return {"reference_frame_rebuilt_fields": film(rows)}

    def _joint_latents(self, own: Tensor, target: Tensor, references: References, known: Tensor, rng: torch.Generator) -> Tensor:
        """Latents of frames where those of the references are the encoder's: `own`, or relayed, or some of each."""
        if references.num_references:
            is_relayed = float(torch.rand((), generator=rng)) < self.settings.relayed_odds
            share = torch.rand(known.shape[0], known.shape[2], generator=rng).to(known)
            told = relayed(target, references.latents, known, share)
            if is_relayed:
                own = told
            elif self.settings.told:
                amiss = self.latents.read(told) - self.latents.read(own)
                own = own + self.latents(amiss * self.told.to(amiss), *own.shape[-2:])
        return noised(own, self.settings.label_noise, rng)

    def _misjudged(self, target: Tensor, references: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Label latents of frames and references, off as an encoder's would be."""
        num_labels, people = self.latents.num_labels, references.shape[0]
        bias = self.settings.bias_noise * torch.randn(people, 1, num_labels, 1, 1, generator=rng)
        bias = F.pad(bias, (0, 0, 0, 0, 0, self.latents.latent_channels - num_labels)).to(target)
        references = noised(references + bias, self.settings.label_noise, rng)
        frames = target + bias.transpose(1, 2).repeat_interleave(target.shape[0] // people, dim=0)
        return noised(frames, self.settings.label_noise, rng), references
