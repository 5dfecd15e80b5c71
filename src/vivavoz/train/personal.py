"""Training an avatar: what the decoder keeps of one person learns from the animator's pictures of that very person.

From a stranger's portrait the VAE guesses where the lips part, what covers the teeth, how far a turn of the head moves every
pixel. Where there is a minute, it need not: the animator moves the same portrait, and the features, bases, keys and values that
the decoder keeps of it learn to give those pictures back (docs/adr/0014-personal-avatars.md). All weights stay as they are, so
personal avatars share a model, and its batches, with any other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivavoz.data.corpus import Detect
from vivavoz.data.shards.reading import window_loader
from vivavoz.engine.avatar import Avatar, photographs
from vivavoz.engine.trees import tensors_of, with_tensors
from vivavoz.errors import ConfigError
from vivavoz.media.crop import crop_portrait
from vivavoz.rig.labels import LABELS
from vivavoz.rig.landmarks import detect_landmarks
from vivavoz.rig.matte import person_matte
from vivavoz.rig.posing import mouth_poses, show_poses
from vivavoz.rig.rig import Rig
from vivavoz.rig.warp import PORTRAIT_SIZE_PX
from vivavoz.train.clips import ClipConfig, Clips, animate, pictures
from vivavoz.train.label_latents import LabelLatents
from vivavoz.train.loop import LoopConfig, Objective, Step, train
from vivavoz.train.run_folder import begin_run
from vivavoz.train.vae_training import VAETraining, decoder_losses, label_references, noised
from vivavoz.vae.vae import VAE, References

_BASIS_CELLS = 2.0
"""What counts as usual in a basis, which is zero nearly everywhere."""


@dataclass(frozen=True, kw_only=True)
class PersonalTraining:
    """How an avatar is trained."""

    vae: VAETraining
    """Length and losses; the learning rate is a share of what is usual in each tensor."""
    num_frames: int = 6
    """Pictures of a step."""
    num_render_processes: int = 1


def personal_training(minutes: float) -> PersonalTraining:
    """The usual training, for so long. Raises `ConfigError` where that is no time."""
    if not 0 < minutes < math.inf:
        raise ConfigError(f"got {minutes:g} minutes of training, expected more than 0")
    loop = LoopConfig(budget_s=60 * minutes, learning_rate=2e-2, warmup_steps=10, weight_decay=0, log_every_steps=5)
    losses = VAETraining(
        loop=loop, pixel_weight=0.7, mouth_weight=26, eye_weight=10, iris_weight=120, mask_weight=3, paint_weight=4
    )
    return PersonalTraining(vae=losses)


@dataclass(frozen=True, kw_only=True)
class _Run:
    portrait: str
    training: PersonalTraining


class PersonClips(Dataset[Clips]):
    """Endless batches of one rigged person, by their number: single pictures at `size`, with `poses` (M, len(MOTION)) of the
    person as their references."""

    def __init__(self, rig: Rig, poses: NDArray[np.float32], *, num_frames: int, size: int, seed: int = 0) -> None:
        self.rig, self.poses, self.seed = rig, poses, seed
        self.config = ClipConfig(num_people=1, clips_per_person=num_frames, size=size, mirror=False, relit=False)

    def __getitem__(self, index: int) -> Clips:
        """Batch number `index`."""
        rng = np.random.default_rng([self.seed, index])
        return Clips.of_people([animate(self.rig, self.config, len(self.poses), rng, poses=self.poses)])

    def batches(self, num_workers: int) -> Callable[[int], Iterable[Clips]]:
        """What a training loop takes."""
        return lambda first_step: window_loader(self, start=first_step, num_workers=num_workers, prefetch=4)


class PersonalReferences(nn.Module):
    """What the decoder keeps of a person, as parameters: changes of tensors, counted in root mean squares, or in cells."""

    def __init__(self, references: References, *, has_bases: bool) -> None:
        super().__init__()
        self._references = references
        self._base = tensors_of((references.fusion, references.warp))
        self._usual = [float(tensor.square().mean().sqrt()) for tensor in self._base]
        if has_bases:
            self._usual[-1] = _BASIS_CELLS
        self.changes = nn.ParameterList(nn.Parameter(torch.zeros_like(tensor)) for tensor in self._base)

    def forward(self) -> References:
        """The references as they have become."""
        now = [base + usual * change for base, usual, change in zip(self._base, self._usual, self.changes, strict=True)]
        fusion, warp = with_tensors((self._references.fusion, self._references.warp), now)
        return replace(self._references, fusion=fusion, warp=warp)


class PersonalObjective(Objective[Clips]):
    """A person's pictures from their labels, by a decoder whose weights stay."""

    def __init__(self, vae: VAE, references: References, training: PersonalTraining) -> None:
        super().__init__()
        assert vae.config.warp is not None
        self.personal = PersonalReferences(references, has_bases=bool(vae.config.warp.basis_codes))
        self._vae = (vae,)  # neither trained nor saved
        self._settings = training.vae

    def forward(self, batch: Clips, step: Step) -> dict[str, Tensor]:
        """See `decoder_losses`."""
        (vae,) = self._vae
        side = batch.frames.shape[2] // vae.config.spatial_factor
        z = noised(_label_latents(vae)(batch.labels, side, side), self._settings.label_noise, step.rng)
        return decoder_losses(vae, batch, z, self.personal(), self._settings)


def personalise(
    avatar: Avatar,
    folder: Path,
    training: PersonalTraining,
    *,
    rig: Rig | None = None,
    detect: Detect = detect_landmarks,
    report: Callable[[dict[str, float]], None] | None = None,
) -> Avatar:
    """The same person, whose face the decoder has learnt.

    Args:
        avatar: of one portrait.
        folder: of the training's checkpoints and log: a run that was stopped goes on where it was.
        training: how long, and how.
        rig: the portrait, ready to be animated; None: made from it.
        detect: landmarks (478, 3) of a portrait (512, 512, 3).
        report: handed every line of the log.

    Raises:
        ConfigError: an avatar of several portraits, or of a model without a reference warp on label latents.
        DataError: MediaPipe is missing, or finds no face.
    """
    vae = avatar.model.vae
    if len(avatar.crops) != 1:
        raise ConfigError(f"got an avatar of {len(avatar.crops)} portraits, expected one: personal avatars have one portrait")
    if vae.config.warp is None or not vae.config.frame_codes:
        raise ConfigError(f"the preset {avatar.model.preset.name} does not decode labels; expected one that does, such as lite")
    begin_run(folder, _Run(portrait=hashlib.sha256(avatar.crops[0].image.tobytes()).hexdigest(), training=training))
    rig = rig or _rig(avatar, detect)
    size, preset = avatar.model.preset.working_size, avatar.model.preset
    is_posed = len(avatar.shown) > 1
    poses = mouth_poses(rig, preset.posed_jaws) if is_posed else rig.rest()[None]
    clips = PersonClips(rig, poses, num_frames=training.num_frames, size=size, seed=training.vae.loop.seed)
    first = clips[0]
    known = label_references(_label_latents(vae), first, size // vae.config.spatial_factor)
    with torch.no_grad():
        at_work = vae.encode_references(pictures(first.references).to(avatar.model.device), latents=known)
    objective = PersonalObjective(vae, at_work, training)
    with _frozen(vae):
        train(objective, clips.batches(training.num_render_processes), training.vae.loop, folder, report=report)
    with torch.no_grad():
        learnt = objective.personal()
    shown = show_poses(rig, avatar.crops[0].image, poses).pictures if is_posed else avatar.shown
    photos = photographs(shown, avatar.model.device)
    return replace(avatar, shown=shown, references=replace(learnt, photos=photos, size=avatar.references.size))


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """While it lasts, no parameter asks for a gradient."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _label_latents(vae: VAE) -> LabelLatents:
    return LabelLatents(len(LABELS), vae.config.latent_channels)


def _rig(avatar: Avatar, detect: Detect) -> Rig:
    image = crop_portrait(avatar.crops[0].image, "none", PORTRAIT_SIZE_PX).image
    return Rig.from_image(image, detect(image), person_matte(image))
