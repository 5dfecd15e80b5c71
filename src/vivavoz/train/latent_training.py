"""Training the generator as published (paper 3.2, algorithm 1) on latents that were encoded beforehand.

Shapes: B windows, C channels, N latents, R references, h w rows and columns, F pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from vivavoz.audio.encoder import AudioEncoder
from vivavoz.data.latents.reading import LatentBatch
from vivavoz.flow.noise import MAX_CONTEXT_NOISE, draw_flow_matching
from vivavoz.generator.conditioning import Controls, group_audio
from vivavoz.generator.generator import Generator
from vivavoz.generator.teacher_forcing import CONDITION_DROP_PROBABILITY, draw_audio_drop, draw_reference_mask
from vivavoz.train.generator_training import WISH_DROP_ODDS
from vivavoz.train.loop import Objective, Step
from vivavoz.train.sheets import Sheet, film, redraw, tracks


@dataclass(frozen=True, kw_only=True)
class LatentTraining:
    """Settings of the objective; the defaults are the paper's."""

    drop_odds: float = CONDITION_DROP_PROBABILITY
    """How often sound, and how often references, give way to the null embedding."""
    max_context_noise: float = MAX_CONTEXT_NOISE
    """The clean past is noised to flow times of 0 to this."""
    free_odds: float = 0.4
    """How often nothing is asked of the face at all, where the generator has controls; else wishes are left out now and then."""
    train_audio: bool = False
    """Learn the audio encoder too. The paper's comes trained; one with random weights must learn."""


class LatentObjective(Objective[LatentBatch]):
    """The generator on windows of latents; with a mask token on a video's first, whichever rows begin one."""

    def __init__(
        self,
        generator: Generator,
        audio: AudioEncoder,
        settings: LatentTraining,
        decode: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """`decode`: latents (1, C, N, h, w) to frames (1, 3, T, H, W) in [-1, 1], to be looked at."""
        super().__init__()
        self._decode = decode
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
            controls=self._wishes(batch.controls, rng, device),
        )
        return {"velocity": (velocity.float() - draw.target).square().mean()}

    def show(self, batch: LatentBatch) -> dict[str, Sheet]:
        """A window drawn anew, each latent given the true ones before it, beside the true one: its channels over time, in the
        middle of the picture; and as frames, where there is a VAE."""
        device = self.generator.latent_in.weight.device
        clean, references = batch.latents[:1].to(device), batch.references[:1].to(device)
        audio = group_audio(self._hear(batch.mel_windows[:1].to(device)), starts_video=batch.starts_video)

        def velocity(z: Tensor, flow_time: Tensor) -> Tensor:
            flow_times = flow_time.expand(1)
            return self.generator(z, clean, flow_times, references, audio, starts_video=batch.starts_video).float()

        drawn = redraw(velocity, clean)
        middle = (0, slice(None), slice(None), clean.shape[3] // 2, clean.shape[4] // 2)
        sheets = {"true_drawn_latents": tracks(clean[middle], drawn[middle])}
        if self._decode is not None:
            sheets["true_drawn_frames"] = film([self._decode(z)[0].transpose(0, 1) for z in (clean, drawn)])
        return sheets

    def _wishes(self, known: Controls, rng: torch.Generator, device: torch.device) -> Controls | None:
        """What is asked of each window's face: part of what it does."""
        if not self.generator.config.controls:
            return None
        assert known.present is not None
        batch_size, _, num_controls = known.present.shape
        asked = torch.rand(batch_size, 1, num_controls, generator=rng) >= WISH_DROP_ODDS
        asked &= torch.rand(batch_size, 1, 1, generator=rng) >= self.settings.free_odds
        moved = {field.name: getattr(known, field.name) for field in fields(Controls)} | {"present": known.present & asked}
        return Controls(**{name: None if values is None else values.to(device) for name, values in moved.items()})

    def _hear(self, mel_windows: Tensor) -> Tensor:
        """(B, F, 16, K) to (B, F, D); in float32, as levels span 100 dB."""
        with torch.autocast(mel_windows.device.type, enabled=False):
            features: Tensor = self.audio(mel_windows)
        return features
