"""Training the generator as published (paper 3.2, algorithm 1) on latents that were encoded beforehand.

Shapes: B windows, C channels, N latents, R references, h w rows and columns, F pictures.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from vivavoz.audio.encoder import AudioEncoder
from vivavoz.data.latents.reading import LatentBatch
from vivavoz.flow.noise import MAX_CONTEXT_NOISE, draw_flow_matching
from vivavoz.generator.conditioning import group_audio
from vivavoz.generator.generator import Generator
from vivavoz.generator.teacher_forcing import CONDITION_DROP_PROBABILITY, draw_audio_drop, draw_reference_mask
from vivavoz.train.loop import Objective, Step


@dataclass(frozen=True, kw_only=True)
class LatentTraining:
    """Settings of the objective; the defaults are the paper's."""

    drop_odds: float = CONDITION_DROP_PROBABILITY
    """How often sound, and how often references, give way to the null embedding."""
    max_context_noise: float = MAX_CONTEXT_NOISE
    """The clean past is noised to flow times of 0 to this."""
    train_audio: bool = False
    """Learn the audio encoder too. The paper's comes trained; one with random weights must learn."""


class LatentObjective(Objective[LatentBatch]):
    """The generator on windows of latents; with a mask token on a video's first, whichever rows begin one."""

    def __init__(self, generator: Generator, audio: AudioEncoder, settings: LatentTraining) -> None:
        super().__init__()
        self.generator, self.audio, self.settings = generator, audio, settings
        audio.requires_grad_(settings.train_audio)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; an audio encoder that does not learn keeps the statistics it has."""
        super().train(mode)
        if not self.settings.train_audio:
            self.audio.eval()
        return self

    def forward(self, batch: LatentBatch, step: Step) -> dict[str, Tensor]:
        """Equation 3."""
        settings, rng = self.settings, step.rng
        device = self.generator.latent_in.weight.device
        clean = batch.latents.to(device)
        batch_size, num_references = clean.shape[0], batch.references.shape[2]
        draw = draw_flow_matching(clean, rng, max_context_noise=settings.max_context_noise)
        mask = draw_reference_mask(batch_size, num_references, rng, drop_probability=settings.drop_odds)
        drop_audio = draw_audio_drop(batch_size, rng, probability=settings.drop_odds)
        velocity = self.generator(
            draw.noised,
            draw.context,
            draw.flow_time,
            batch.references.to(device),
            group_audio(self._hear(batch.mel_windows.to(device)), starts_video=batch.starts_video),
            starts_video=batch.starts_video,
            reference_mask=mask.to(device),
            drop_audio=drop_audio.to(device),
        )
        return {"velocity": (velocity.float() - draw.target).square().mean()}

    def _hear(self, mel_windows: Tensor) -> Tensor:
        """(B, F, 16, K) to (B, F, D); in float32, as levels span 100 dB."""
        with torch.autocast(mel_windows.device.type, enabled=False):
            features: Tensor = self.audio(mel_windows)
        return features
