"""Distilling a trained generator: a student of few steps and a single branch learns to land where its guided teacher lands.

Teacher and student see the same windows by teacher forcing, so all blocks of a window learn in one pass of each. The student
begins as a copy of the teacher. See docs/adr/0009-student.md.

Shapes: B windows, N latent frames, C latent channels, R references.
"""

from dataclasses import dataclass, replace
from typing import Self, TypeVar

import torch
from torch import Tensor

from vivavoz.audio.encoder import AudioEncoder
from vivavoz.data.latents.reading import LatentBatch
from vivavoz.errors import ConfigError
from vivavoz.flow.distillation import chords
from vivavoz.flow.guidance import guide
from vivavoz.flow.noise import context_noise_level, gaussian_like
from vivavoz.flow.path import interpolate
from vivavoz.flow.sampler import Velocity
from vivavoz.flow.schedule import flow_times
from vivavoz.generator.conditioning import Controls, group_audio
from vivavoz.generator.generator import Generator
from vivavoz.generator.teacher_forcing import draw_reference_mask
from vivavoz.presets import SamplingConfig
from vivavoz.train.generator_training import GeneratorTraining, Windows, draw_block, velocity_error
from vivavoz.train.loop import Objective, Step

B = TypeVar("B")


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """What the student learns to do in how many steps."""

    num_steps: int = 2
    """Of the student, for which alone it is made."""
    teacher_steps: int = 6
    """Euler steps that those replace; a multiple of `num_steps`."""
    timestep_shift: float = 2.0
    """Of both; the student's times are some of the teacher's. Two steps meet at a flow time of 2/3: see the ADR."""
    guidance_audio: float = 1.5
    """`la` of equation (I), which the student has in it."""
    guidance_reference: float = 1.0
    """`lr` likewise; 1: the branch without references is not computed."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_steps <= self.teacher_steps or self.teacher_steps % self.num_steps:
            raise ConfigError(
                f"got {self.teacher_steps} steps of the teacher for {self.num_steps} of the student, expected a multiple: "
                "change one of them"
            )

    def sampling(self, usual: SamplingConfig) -> SamplingConfig:
        """How the student is to be sampled, where its teacher is sampled as `usual`."""
        return replace(
            usual, num_steps=self.num_steps, timestep_shift=self.timestep_shift, guidance_audio=1.0, guidance_reference=1.0
        )


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a batch of windows while its latents are still noise."""

    context: Tensor
    """`(B, C, N, H, W)`: the (noised) truth, of which every block sees what lies before it."""
    references: Tensor
    """`(B, C, R, H, W)`."""
    reference_mask: Tensor
    """`(B, R)` bool."""
    audio: Tensor
    """`(B, N, 4, F)`."""
    starts_video: Tensor | bool
    controls: Controls | None
    block_latents: int

    def velocity(self, generator: Generator, *, without_audio: bool = False, without_references: bool = False) -> Velocity:
        """The generator's velocity of all blocks at once, as a function of noised latents and a flow time `()`."""
        batch_size = len(self.references)
        drop_audio = torch.full((batch_size,), without_audio, device=self.references.device)
        mask = torch.zeros_like(self.reference_mask) if without_references else self.reference_mask

        def velocity(z: Tensor, flow_time: Tensor) -> Tensor:
            found: Tensor = generator(
                z,
                self.context,
                flow_time,
                self.references,
                self.audio,
                starts_video=self.starts_video,
                reference_mask=mask,
                drop_audio=drop_audio,
                controls=self.controls,
                blocks=self.block_latents,
            )
            return found.to(z.dtype)

        return velocity

    def guided(self, generator: Generator, settings: Distillation) -> Velocity:
        """Equation (I), with as many branches as the scales need."""
        full = self.velocity(generator)
        no_audio = full if settings.guidance_audio == 1 else self.velocity(generator, without_audio=True)
        no_reference = full if settings.guidance_reference == 1 else self.velocity(generator, without_references=True)

        def velocity(z: Tensor, flow_time: Tensor) -> Tensor:
            v = full(z, flow_time)
            return guide(
                v,
                v if no_audio is full else no_audio(z, flow_time),
                v if no_reference is full else no_reference(z, flow_time),
                audio_scale=settings.guidance_audio,
                reference_scale=settings.guidance_reference,
            )

        return velocity


class StudentObjective(Objective[B]):
    """The student (`generator`) beside its teacher, which stays as it is."""

    def __init__(self, generator: Generator, teacher: Generator, settings: Distillation) -> None:
        super().__init__()
        self.generator, self.teacher, self.settings = generator, teacher, settings
        self.teacher.requires_grad_(False)

    def known(self, batch: B, rng: torch.Generator) -> Known:
        """What a batch tells, with the draws that training adds."""
        raise NotImplementedError

    def forward(self, batch: B, step: Step) -> dict[str, Tensor]:
        """Squared error of the student's velocity at each of its steps, as `step_1`, `step_2`..."""
        known, settings = self.known(batch, step.rng), self.settings
        noise = gaussian_like(known.context, step.rng)
        times = flow_times(settings.teacher_steps, shift=settings.timestep_shift, device=noise.device)
        pairs = chords(known.velocity(self.generator), known.guided(self.teacher, settings), noise, times, settings.num_steps)
        return {f"step_{n}": self.error(velocity, target) for n, (velocity, target) in enumerate(pairs, 1)}

    def error(self, velocity: Tensor, target: Tensor) -> Tensor:
        """Mean squared error of velocities `(B, C, N, H, W)`."""
        return (velocity - target).square().mean()


class LabelStudentObjective(StudentObjective[Windows]):
    """On windows of label latents, as the teacher was trained by `GeneratorObjective`."""

    def __init__(
        self, generator: Generator, teacher: Generator, settings: Distillation, windows: GeneratorTraining, num_labels: int
    ) -> None:
        super().__init__(generator, teacher, settings)
        self.windows, self.num_labels = windows, num_labels

    def known(self, batch: Windows, rng: torch.Generator) -> Known:
        """Blocks of 1, 2 and 4, and the wishes."""
        block = draw_block(rng)
        audio = group_audio(batch.features, starts_video=batch.starts_video)
        controls = batch.controls if self.generator.config.controls else None
        known = _draw_known(batch.clean, batch.references, audio, batch.starts_video, rng, controls=controls, block=block)
        return replace(known, context=known.context + batch.astray[:, :, None, None, None])

    def error(self, velocity: Tensor, target: Tensor) -> Tensor:
        """Lips weigh more, as they did for the teacher."""
        return velocity_error(velocity, target, self.windows, self.num_labels)


class LatentStudentObjective(StudentObjective[LatentBatch]):
    """On cached latents, as the teacher was trained by `LatentObjective`."""

    def __init__(self, generator: Generator, teacher: Generator, settings: Distillation, audio: AudioEncoder) -> None:
        super().__init__(generator, teacher, settings)
        self.audio = audio.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the audio encoder keeps the statistics it has."""
        super().train(mode)
        self.audio.eval()
        return self

    def known(self, batch: LatentBatch, rng: torch.Generator) -> Known:
        """Blocks of 1, 2 and 4; nothing is asked of the face."""
        device = self.generator.latent_in.weight.device
        block = draw_block(rng)
        with torch.autocast(device.type, enabled=False):
            features = self.audio(batch.mel_windows.to(device))
        return _draw_known(
            batch.latents.to(device),
            batch.references.to(device),
            group_audio(features, starts_video=batch.starts_video),
            batch.starts_video,
            rng,
            controls=None,
            block=block,
        )


def _draw_known(
    clean: Tensor,
    references: Tensor,
    audio: Tensor,
    starts_video: bool,
    rng: torch.Generator,
    *,
    controls: Controls | None,
    block: int,
) -> Known:
    """Noise the past and choose the references. Nothing is dropped: the student has no other branch."""
    level = context_noise_level((len(clean),), rng).to(clean)
    mask = draw_reference_mask(len(clean), references.shape[2], rng, drop_probability=0.0)
    return Known(
        context=interpolate(clean, gaussian_like(clean, rng), level),
        references=references,
        reference_mask=mask.to(clean.device),
        audio=audio,
        starts_video=starts_video,
        controls=controls,
        block_latents=block,
    )
