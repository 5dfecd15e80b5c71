"""Training the `lite` generator on label latents: speech to the motion the animator performs to it.

Nothing is rendered: the label latents of a performance are what the VAE's encoder is trained to give for its frames
(docs/adr/0006-label-latents.md), so the generator learns the animator's motion straight from its labels. The objective is
algorithm 1 of the paper: teacher forcing over a window, flow matching, conditions dropped, context noised, blocks of 1, 2 and 4.

Shapes: B windows, N latent frames, C latent channels, F = 1 + 4(N-1) pictures.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vivavoz.audio.encoder import AudioEncoder
from vivavoz.data.performance import State
from vivavoz.errors import ConfigError, DataError
from vivavoz.flow.noise import draw_flow_matching
from vivavoz.generator.conditioning import CONTROL_NAMES, Controls, group_audio
from vivavoz.generator.generator import Generator
from vivavoz.generator.teacher_forcing import draw_audio_drop, draw_reference_mask
from vivavoz.rig.labels import LABELS, in_units
from vivavoz.timing import FRAMES_PER_LATENT
from vivavoz.train.label_latents import LabelLatents
from vivavoz.train.loop import LoopConfig, Objective, Step
from vivavoz.train.sheets import Sheet, redraw, tracks

WISH_DROP_ODDS = 0.3
"""How often each of the wishes is left out, where any are made."""

_ANGLES = {"gaze": ("gaze_x", "gaze_y"), "head_pose": ("yaw", "pitch", "roll")}
"""Labels that a wish for angles speaks of."""
_ANGLE_LABELS = [LABELS.index(name) for names in _ANGLES.values() for name in names]
_ANGLE_CONTROLS = [CONTROL_NAMES.index(name) for name in _ANGLES]


@dataclass(frozen=True)
class FrameWishes:
    """What can be asked of the face in every picture; see `vivavoz.generator.conditioning.Controls`."""

    state: Tensor
    """(F,) int64."""
    expression: Tensor
    """(F,) int64."""
    expression_intensity: Tensor
    """(F,)."""
    gaze: Tensor
    """(F, 2) radians."""
    head_pose: Tensor
    """(F, 3) radians."""

    @classmethod
    def from_labels(cls, labels: Mapping[str, NDArray]) -> "FrameWishes":
        """What `vivavoz.data.animation.clip_labels` says was done."""
        return cls(
            state=torch.from_numpy(labels["state"].astype(np.int64)),
            expression=torch.from_numpy(labels["expression"].astype(np.int64)),
            **{name: torch.from_numpy(labels[name]) for name in ("expression_intensity", "gaze", "head_pose")},
        )

    def of_latents(self, start: int, num_frames: int, *, starts_video: bool) -> "FrameWishes":
        """One row per latent frame: classes of its last picture, means of the rest."""

        def grouped(track: Tensor) -> Tensor:
            return of_each_latent(track[start : start + num_frames], starts_video=starts_video)

        return FrameWishes(
            state=grouped(self.state)[:, -1],
            expression=grouped(self.expression)[:, -1],
            expression_intensity=grouped(self.expression_intensity).mean(1),
            gaze=grouped(self.gaze).mean(1),
            head_pose=grouped(self.head_pose).mean(1),
        )


@dataclass(frozen=True)
class Take:
    """A performance: sound, what the face does, and what it was told to do."""

    windows: Tensor
    """(F, 16, K) mel windows, one per picture."""
    labels: NDArray[np.float32]
    """(F, L)."""
    reference_labels: NDArray[np.float32]
    """(L,): labels of the portrait as it is."""
    wishes: FrameWishes
    is_led: bool = False
    """Whether head and eyes go where nobody's would unasked, so that they must be asked for."""
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
    free_odds: float = 0.4
    """How often nothing at all is asked of the face, which is how most people use it; else each wish is left out now and then."""
    lip_weight: float = 3.0
    """Weight of the lips' channels in the loss; they are what speech decides."""
    angle_weight: float = 1.0
    """Weight of the channels of gaze and head pose: five among many, and seen at once by whoever asks for them."""
    num_lip_labels: int = 7
    """The first so many labels speak of the lips."""
    closure_weight: float = 0.0
    """What is added to the lips' weight, 1, in latents in which they are pressed together: closures are short, and the mean of
    what may be said is never closed."""
    timestep_shift: float = 1.0
    """As the sampler's: few-step sampling sees flow times near noise only, where sound decides."""
    overheard_odds: float = 0.0
    """How often pauses of a window are filled with the speech of others: the face is then told its state, and its lips rest."""
    astray: float = 0.0
    """Standard deviation of what is added to angles of head and eyes in the past, where they are asked for: a face that is not
    where it was told to be shall go there, rather than on from where it is."""


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
    controls: Controls
    """Of N latent frames."""
    closures: Tensor
    """(B, N) how firmly the lips are pressed together at most, 0 to 1."""
    astray: Tensor
    """(B, C) what is added to every latent of the past."""
    starts_video: bool


def draw_windows(takes: Sequence[Take], latents: LabelLatents, settings: GeneratorTraining, rng: np.random.Generator) -> Windows:
    """Cut random windows out of random takes; all of a batch start a video, or none does."""
    starts_video = bool(rng.random() < settings.start_odds)
    num_frames = FRAMES_PER_LATENT * settings.num_latents - (FRAMES_PER_LATENT - 1 if starts_video else 0)
    side = settings.latent_side
    features, clean, references, wishes, closures = [], [], [], [], []
    told = np.zeros((settings.batch_size, len(CONTROL_NAMES)), bool)
    for row in range(settings.batch_size):
        take = takes[int(rng.integers(len(takes)))]
        start = _random_start(take, num_frames, starts_video, rng)
        labels = take.labels[start : start + num_frames]
        bias = settings.bias_noise * rng.standard_normal(labels.shape[1], dtype=np.float32)
        window = torch.from_numpy(labels + bias)[None]
        if not starts_video:  # the row put in front makes the map treat the rest as groups of four; its own latent is dropped
            window = torch.cat([window[:, :1], window], dim=1)
        z = latents(window, side, side)
        clean.append(z if starts_video else z[:, :, 1:])
        features.append(_features(take, start, num_frames))
        told[row, _ANGLE_CONTROLS] = take.is_led
        if rng.random() < settings.overheard_odds:
            told[row, CONTROL_NAMES.index("state")] = True
            other = takes[int(rng.integers(len(takes)))]
            speech = _features(other, _random_start(other, num_frames, starts_video, rng), num_frames)
            silent = take.wishes.state[start : start + num_frames, None] != State.SPEAKING
            features[-1] = torch.where(silent, speech, features[-1])
        wishes.append(take.wishes.of_latents(start, num_frames, starts_video=starts_video))
        pressed = torch.from_numpy(in_units(labels, "press")).clamp(0, 1)
        closures.append(of_each_latent(pressed, starts_video=starts_video).amax(1))
        poses = np.concatenate([take.reference_labels[None], take.labels[rng.integers(len(take.labels), size=2)]])
        references.append(latents(torch.from_numpy(poses + bias)[:, None], side, side).transpose(0, 2))
    z_ref = torch.cat(references)
    noise = torch.from_numpy(rng.standard_normal(z_ref.shape, dtype=np.float32))
    controls = _controls(wishes, settings.free_odds, told, rng)
    return Windows(
        features=torch.stack(features),
        clean=torch.cat(clean),
        references=z_ref + settings.reference_noise * noise,
        controls=controls,
        closures=torch.stack(closures),
        astray=settings.astray * _astray(controls, latents.latent_channels, rng),
        starts_video=starts_video,
    )


def of_each_latent(track: Tensor, *, starts_video: bool) -> Tensor:
    """Pictures (F, ...) by latent (N, 4, ...); the single picture of a video's first latent four times."""
    if starts_video:
        track = torch.cat([track[:1].expand(FRAMES_PER_LATENT - 1, *track.shape[1:]), track])
    return track.unflatten(0, (-1, FRAMES_PER_LATENT))


def _features(take: Take, start: int, num_frames: int) -> Tensor:
    if take.features is None:
        raise ConfigError("takes without features cannot train the generator: pass them through hear() first")
    return take.features[start : start + num_frames]


def _random_start(take: Take, num_frames: int, starts_video: bool, rng: np.random.Generator) -> int:
    """Picture with which a window begins: the first, or one with which a latent begins."""
    length = len(take.labels) if take.features is None else min(len(take.labels), len(take.features))
    last = (length - 1 - num_frames) // FRAMES_PER_LATENT
    return 0 if starts_video else 1 + FRAMES_PER_LATENT * int(rng.integers(last + 1))


def _controls(wishes: Sequence[FrameWishes], free_odds: float, told: NDArray[np.bool_], rng: np.random.Generator) -> Controls:
    """A batch of wishes, some of them left out, but not those that are `told` (B, 4): without them nobody could guess."""
    names = [field.name for field in fields(FrameWishes)]
    asked = rng.random((len(wishes), 1, len(CONTROL_NAMES))) >= WISH_DROP_ODDS
    asked &= rng.random((len(wishes), 1, 1)) >= free_odds
    asked[:, 0] |= told
    present = torch.from_numpy(asked).expand(-1, len(wishes[0].state), -1)
    return Controls(present=present, **{name: torch.stack([getattr(one, name) for one in wishes]) for name in names})


def _astray(controls: Controls, num_channels: int, rng: np.random.Generator) -> Tensor:
    """(B, C) noise of unit deviation on the levels of the angles that are asked for."""
    assert controls.present is not None
    astray = torch.zeros(len(controls.present), len(LABELS))
    for name, labels in _ANGLES.items():
        for label in labels:
            noise = torch.from_numpy(rng.standard_normal(len(astray), dtype=np.float32))
            astray[:, LABELS.index(label)] = noise * controls.present[:, 0, CONTROL_NAMES.index(name)]
    return F.pad(astray, (0, num_channels - len(LABELS)))


def generator_loss(
    generator: Generator, windows: Windows, settings: GeneratorTraining, num_labels: int, rng: torch.Generator
) -> Tensor:
    """Flow-matching loss (equation 3) of a batch of windows."""
    batch_size = windows.clean.shape[0]
    block = draw_block(rng)
    draw = draw_flow_matching(windows.clean.contiguous(), rng, block_latents=block, timestep_shift=settings.timestep_shift)
    velocity = generator(
        draw.noised,
        draw.context + windows.astray[:, :, None, None, None],
        draw.flow_time,
        windows.references,
        group_audio(windows.features, starts_video=windows.starts_video),
        starts_video=windows.starts_video,
        reference_mask=draw_reference_mask(batch_size, windows.references.shape[2], rng),
        drop_audio=draw_audio_drop(batch_size, rng),
        controls=windows.controls if generator.config.controls else None,
        blocks=block,
    )
    return velocity_error(velocity, draw.target, settings, num_labels, windows.closures)


def draw_block(rng: torch.Generator) -> int:
    """Latent frames that are made together: 4 in half of the draws, else 1 or 2."""
    return (4, 4, 2, 1)[int(torch.randint(4, (), generator=rng))]


def velocity_error(
    velocity: Tensor, target: Tensor, settings: GeneratorTraining, num_labels: int, closures: Tensor | None = None
) -> Tensor:
    """Mean squared error of velocities (B, C, N, h, w); the lips' channels weigh more, most of all at `closures` (B, N), and so
    do those of gaze and head pose."""
    channels = torch.arange(velocity.shape[1], device=velocity.device) % num_labels
    are_lips = channels < settings.num_lip_labels
    are_angles = torch.isin(channels, torch.tensor(_ANGLE_LABELS, device=velocity.device))
    weight = 1 + (settings.lip_weight - 1) * are_lips + (settings.angle_weight - 1) * are_angles
    error = (velocity - target).square().mean(dim=(3, 4))
    if closures is not None:
        error = error * (1 + settings.closure_weight * closures[:, None] * are_lips[:, None])
    return (error.mean(dim=(0, 2)) * weight).sum() / weight.sum()


def redrawn(generator: Generator, windows: Windows) -> Tensor:
    """The first window drawn anew, (1, C, N, h, w), every latent given the true ones before it, and free in what was wished."""
    clean = windows.clean[:1].contiguous()
    audio = group_audio(windows.features[:1], starts_video=windows.starts_video)

    def velocity(z: Tensor, flow_time: Tensor) -> Tensor:
        references, flow_times = windows.references[:1], flow_time.expand(1)
        return generator(z, clean, flow_times, references, audio, starts_video=windows.starts_video)  # type: ignore[no-any-return]

    return redraw(velocity, clean)


class GeneratorObjective(Objective[Windows]):
    """The generator on windows of label latents."""

    def __init__(self, generator: Generator, takes: Sequence[Take], settings: GeneratorTraining) -> None:
        super().__init__()
        self.generator, self.settings = generator, settings
        self._takes = [take for take in takes if len(take.labels) > FRAMES_PER_LATENT * settings.num_latents]
        if not self._takes:
            raise DataError(
                f"none of {len(takes)} takes is longer than a window of {settings.num_latents} latents: make windows shorter"
            )
        self.latents = LabelLatents(takes[0].labels.shape[-1], generator.config.latent_channels)

    def batches(self, first_step: int) -> Iterator[Windows]:
        """Random windows of every step."""
        for step in itertools.count(first_step):
            yield draw_windows(self._takes, self.latents, self.settings, np.random.default_rng([self.settings.loop.seed, step]))

    def forward(self, batch: Windows, step: Step) -> dict[str, Tensor]:
        """Equation 3."""
        return {"velocity": generator_loss(self.generator, batch, self.settings, self.latents.num_labels, step.rng)}

    def show(self, batch: Windows) -> dict[str, Sheet]:
        """The channels of a window over time, true and drawn anew."""
        return {"true_drawn_latents": tracks(batch.clean[0, :, :, 0, 0], redrawn(self.generator, batch)[0, :, :, 0, 0])}
