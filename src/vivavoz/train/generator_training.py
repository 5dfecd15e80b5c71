"""Training the `lite` generator on label latents: speech to the motion the animator performs to it.

Nothing is rendered: the label latents of a performance are what the VAE's encoder is trained to give for its frames
(docs/adr/0006-label-latents.md), so the generator learns the animator's motion straight from its labels. The objective is
algorithm 1 of the paper: teacher forcing over a window, flow matching, conditions dropped, context noised, blocks of 1, 2 and 4.

Shapes: B windows, N latent frames, C latent channels, F = 1 + 4(N-1) pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivavoz.audio.encoder import AudioEncoder
from vivavoz.errors import ConfigError
from vivavoz.flow.noise import draw_flow_matching
from vivavoz.generator.conditioning import group_audio
from vivavoz.generator.generator import Generator
from vivavoz.generator.teacher_forcing import draw_audio_drop, draw_reference_mask
from vivavoz.timing import FRAMES_PER_LATENT
from vivavoz.train.label_latents import LabelLatents
from vivavoz.train.loop import LoopConfig, Objective, Step


@dataclass(frozen=True)
class Take:
    """One reader's sound with the labels of several portraits performing to it."""

    windows: Tensor
    """(F, 16, K) mel windows, one per picture."""
    labels: NDArray[np.float32]
    """(V, F, L): V portraits, each with head, eyes and brows of its own."""
    reference_labels: NDArray[np.float32]
    """(V, L): labels of each portrait as it is."""
    features: Tensor | None = None
    """(F, D): what the trained audio encoder makes of `windows`; see `hear`."""


@dataclass(frozen=True, kw_only=True)
class GeneratorTraining:
    """Settings of a run."""

    loop: LoopConfig
    batch_size: int = 16
    num_latents: int = 16
    """Latent frames in a window."""
    latent_side: int = 4
    """Rows and columns of the latents; label latents are alike everywhere, so most of the training can use few."""
    start_odds: float = 0.3
    """How often a window begins with the video's first frame."""
    reference_noise: float = 0.05
    """Standard deviation of the noise on reference latents: at inference they come from the encoder."""
    bias_noise: float = 0.2
    """The same of what is added to all labels of a window, its references' too: the encoder misjudges a face alike in every
    picture, and the decoder goes by how a frame differs from the references."""
    lip_weight: float = 3.0
    """Weight of the lips' channels in the loss; they are what speech decides."""
    num_lip_labels: int = 7
    """The first so many labels speak of the lips."""


@torch.inference_mode()
def hear(encoder: AudioEncoder, takes: Sequence[Take]) -> list[Take]:
    """The takes with the features of a trained audio encoder, which stays as it is from here on."""
    encoder.eval()
    return [replace(take, features=encoder(take.windows[None])[0].clone()) for take in takes]


@dataclass(frozen=True)
class Windows:
    """A batch of training windows."""

    features: Tensor
    """(B, F, D)."""
    clean: Tensor
    """(B, C, N, h, w)."""
    references: Tensor
    """(B, C, 3, h, w)."""
    starts_video: bool


def draw_windows(takes: Sequence[Take], latents: LabelLatents, settings: GeneratorTraining, rng: np.random.Generator) -> Windows:
    """Cut random windows out of random takes; all of a batch start a video, or none does."""
    starts_video = bool(rng.random() < settings.start_odds)
    num_frames = FRAMES_PER_LATENT * settings.num_latents - (FRAMES_PER_LATENT - 1 if starts_video else 0)
    side = settings.latent_side
    features, clean, references = [], [], []
    for _ in range(settings.batch_size):
        take = takes[int(rng.integers(len(takes)))]
        if take.features is None:
            raise ConfigError("takes without features cannot train the generator: pass them through hear() first")
        labels = take.labels[variant := int(rng.integers(len(take.labels)))]
        length = min(len(labels), len(take.features))
        last = (length - 1 - num_frames) // FRAMES_PER_LATENT
        start = 0 if starts_video else 1 + FRAMES_PER_LATENT * int(rng.integers(last + 1))
        bias = settings.bias_noise * rng.standard_normal(labels.shape[1], dtype=np.float32)
        window = torch.from_numpy(labels[start : start + num_frames] + bias)[None]
        if not starts_video:  # the row put in front makes the map treat the rest as groups of four; its own latent is dropped
            window = torch.cat([window[:, :1], window], dim=1)
        z = latents(window, side, side)
        clean.append(z if starts_video else z[:, :, 1:])
        features.append(take.features[start : start + num_frames])
        poses = np.concatenate([take.reference_labels[variant][None], labels[rng.integers(length, size=2)]])
        references.append(latents(torch.from_numpy(poses + bias)[:, None], side, side).transpose(0, 2))
    z_ref = torch.cat(references)
    noise = torch.from_numpy(rng.standard_normal(z_ref.shape, dtype=np.float32))
    return Windows(torch.stack(features), torch.cat(clean), z_ref + settings.reference_noise * noise, starts_video)


def generator_loss(
    generator: Generator, windows: Windows, settings: GeneratorTraining, num_labels: int, rng: torch.Generator
) -> Tensor:
    """Flow-matching loss (equation 3) of a batch of windows."""
    batch_size = windows.clean.shape[0]
    block = (4, 4, 2, 1)[int(torch.randint(4, (), generator=rng))]
    draw = draw_flow_matching(windows.clean.contiguous(), rng, block_latents=block)
    velocity = generator(
        draw.noised,
        draw.context,
        draw.flow_time,
        windows.references,
        group_audio(windows.features, starts_video=windows.starts_video),
        starts_video=windows.starts_video,
        reference_mask=draw_reference_mask(batch_size, windows.references.shape[2], rng),
        drop_audio=draw_audio_drop(batch_size, rng),
        blocks=block,
    )
    channels = torch.arange(windows.clean.shape[1])
    weight = 1 + (settings.lip_weight - 1) * (channels % num_labels < settings.num_lip_labels)
    error = (velocity - draw.target).square().mean(dim=(0, 2, 3, 4))
    return (error * weight).sum() / weight.sum()


class GeneratorObjective(Objective[Windows]):
    """The generator on windows of label latents."""

    def __init__(self, generator: Generator, takes: Sequence[Take], settings: GeneratorTraining) -> None:
        super().__init__()
        self.generator, self.settings, self._takes = generator, settings, takes
        self.latents = LabelLatents(takes[0].labels.shape[-1], generator.config.latent_channels)

    def batches(self, first_step: int) -> Iterator[Windows]:
        """Random windows of every step."""
        step = first_step
        while True:
            yield draw_windows(self._takes, self.latents, self.settings, np.random.default_rng([self.settings.loop.seed, step]))
            step += 1

    def forward(self, batch: Windows, step: Step) -> dict[str, Tensor]:
        """Equation 3."""
        return {"velocity": generator_loss(self.generator, batch, self.settings, self.latents.num_labels, step.rng)}
