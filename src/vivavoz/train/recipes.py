"""Recipes: everything that fixes a training run, as one value."""

import math
from dataclasses import dataclass, field, replace

from vivavoz.errors import ConfigError
from vivavoz.presets import Preset, SamplingConfig, lite
from vivavoz.rig.labels import LABELS
from vivavoz.train.audio_training import AudioTraining
from vivavoz.train.clips import ClipConfig
from vivavoz.train.encoder_training import EncoderTraining
from vivavoz.train.face_training import FaceTraining
from vivavoz.train.filmed_clips import FilmedConfig
from vivavoz.train.generator_training import GeneratorTraining
from vivavoz.train.loop import LoopConfig
from vivavoz.train.rig_deck import DeckConfig
from vivavoz.train.vae_training import VAETraining

TEACHER_SAMPLING = SamplingConfig(num_steps=4, guidance_audio=1.5, guidance_reference=1.0)
"""How `lite` is sampled until it is distilled: in as few steps as look well, with the guidance that a student needs no more."""


@dataclass(frozen=True, kw_only=True)
class VAEPhase:
    """A stretch of the VAE's training: what it sees and how it learns."""

    clips: ClipConfig
    training: VAETraining
    filmed: FilmedConfig | None = None
    """What it sees besides, where there is a corpus of filmed clips."""


@dataclass(frozen=True, kw_only=True)
class LiteRecipe:
    """A training of the embedded model from portraits and speech: VAE, audio encoder, generator, one after another."""

    preset: Preset
    face: FaceTraining
    """Of the face map, before all else."""
    vae: tuple[VAEPhase, ...]
    """Each phase goes on from the weights of the one before; the first shapes E1."""
    encoder_clips: ClipConfig
    """What E2 first learns from, after the VAE's first phase."""
    num_encoder_batches: int
    encoder: EncoderTraining
    audio: AudioTraining
    generator: tuple[GeneratorTraining, ...]
    """Each phase goes on from the averaged weights of the one before."""
    basis_gains: dict[str, float] = field(default_factory=dict)
    """How many times as far as it has learnt the VAE's bases of these labels move a face in the end. The error of flows is least
    where what is small moves less than it should: irises, lids and brows go a third to a half of the way that they are told."""
    num_held_portraits: int = 20
    """Portraits that are kept for evaluation; of few portraits, at most a seventh."""
    num_held_readers: int = 30
    """The same for recordings."""
    hours: float = 3.0
    """Of performances that the generator learns from."""
    led_share: float = 0.3
    """Of these, how many have head and eyes led about, so that it learns to follow."""
    num_render_processes: int = 1
    """Processes that animate portraits while the VAE trains; 0: none of their own."""
    seed: int = 0
    """Of the first weights, and of who performs to which recording."""

    def __post_init__(self) -> None:
        """Raise ConfigError for gains of what has no basis: better now than after the training."""
        known = basis_labels(self.preset)
        if unknown := [name for name in self.basis_gains if name not in known]:
            raise ConfigError(
                f"basis_gains has {', '.join(unknown)}, expected labels with a basis ({', '.join(known) or 'there are none'}): "
                "change it"
            )

    @property
    def budget_s(self) -> float:
        """Seconds of training, all phases together."""
        loops = [phase.training.loop for phase in self.vae] + [training.loop for training in self.generator]
        return sum(loop.budget_s for loop in (self.face.loop, *loops, self.encoder.loop, self.audio.loop))


def basis_labels(preset: Preset) -> tuple[str, ...]:
    """Labels that the preset's VAE has a basis for, in the bases' order."""
    warp = preset.vae.warp
    return () if warp is None else tuple(LABELS[code] for code in warp.basis_codes)


def lite_recipe(minutes: float = 120.0) -> LiteRecipe:
    """The recipe of the teacher of what ships: `minutes` of training in all, the preparation of data not counted.

    The face map learns where on faces things are. The VAE learns to move portraits from the animator's flows alone; E2 learns to
    write labels from the features of the E1 that this has shaped. The decoder goes on with pixels and more references; then all
    of it works together; at last its bases go on alone, and are amplified. The audio encoder learns to hear lips. The
    generator learns motion on a single place of the latents, which is cheapest and says it all as label latents are alike
    everywhere, then to shut lips firmly, and at last gets used to the latents' real size.

    Raises:
        ConfigError: `minutes` is not a positive number.
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise ConfigError(f"got {minutes} minutes of training, expected a positive number: 120 is usual")
    total_s = 60.0 * minutes
    preset = replace(lite(), sampling=TEACHER_SAMPLING)
    size = preset.working_size
    deck = DeckConfig(num_rigs=18, batches_per_deal=72, hybrid_odds=0.4)
    clips = ClipConfig(num_people=3, clips_per_person=2, num_frames=1, size=size)

    def loop(share: float, learning_rate: float, **others: float) -> LoopConfig:
        return replace(
            LoopConfig(budget_s=share * total_s, learning_rate=learning_rate, weight_decay=1e-4),
            **others,  # type: ignore[arg-type]
        )

    learning = VAETraining(
        loop=loop(1, 1e-3),
        mouth_weight=16.0,
        eye_weight=12.0,
        iris_weight=80.0,
        mask_weight=4.0,
        paint_weight=4.0,
        latent_weight=3.0,
        freeze_e1=True,
    )
    flows = VAEPhase(
        clips=replace(clips, reference_odds=(0.0, 1.0), deck=replace(deck, seed=1)),
        training=replace(learning, loop=loop(0.15, 1e-3), pixel_weight=0.0, paint_weight=1.0, freeze_e1=False),
    )
    pixels = VAEPhase(
        clips=replace(clips, reference_odds=(0.03, 0.67, 0.18, 0.12), deck=replace(deck, seed=2)),
        training=replace(learning, loop=loop(0.13, 8e-4, warmup_steps=50), pixel_weight=0.2),
    )
    together = VAEPhase(
        clips=replace(clips, reference_odds=(0.01, 0.67, 0.17, 0.15), deck=replace(deck, seed=3)),
        training=replace(
            learning,
            loop=loop(0.13, 7e-4, warmup_steps=50),
            pixel_weight=0.4,
            choice_weight=6.0,
            bias_noise=0.5,
            joint_odds=0.75,
            relayed_odds=0.7,
            told=("press", "lower_in", "upper_raise", "tongue", "eye_open_left", "eye_open_right", "gaze_x", "gaze_y"),
        ),
        filmed=FilmedConfig(size=size, seed=3),
    )
    bases = VAEPhase(
        clips=replace(clips, clips_per_person=4, reference_odds=(0.0, 1.0), deck=replace(deck, seed=4)),
        training=replace(
            learning,
            loop=loop(0.04, 2e-3, warmup_steps=10, ema_decay=0.98),
            bases_alone=True,
            pixel_weight=0.0,
            mask_weight=0.0,
            paint_weight=0.0,
            flow_weight=1.0,
            mouth_weight=14.0,
            eye_weight=40.0,
            iris_weight=250.0,
        ),
    )
    motion = GeneratorTraining(
        loop=loop(0.10, 1e-3, weight_decay=1e-2, ema_decay=0.99),
        batch_size=32,
        num_latents=12,
        latent_side=1,
        free_odds=0.3,
        lip_weight=4.0,
        closure_weight=3.0,
        angle_weight=6.0,
        timestep_shift=3.0,
        overheard_odds=0.5,
        astray=0.7,
    )
    firmly = replace(motion, loop=loop(0.04, 8e-4, weight_decay=1e-2, ema_decay=0.99, seed=6), closure_weight=9.0)
    places = replace(
        firmly,
        loop=loop(0.06, 4e-4, weight_decay=1e-2, warmup_steps=20, ema_decay=0.99, seed=7),
        batch_size=12,
        num_latents=16,
        latent_side=size // preset.vae.spatial_factor,
    )
    return LiteRecipe(
        preset=preset,
        face=FaceTraining(loop=loop(0.15, 2e-3, weight_decay=1e-2), size=size),
        vae=(flows, pixels, together, bases),
        basis_gains={
            "gaze_x": 3.0,
            "gaze_y": 3.0,
            "eye_open_left": 2.2,
            "eye_open_right": 2.2,
            "brow_left": 1.6,
            "brow_right": 1.6,
            "smile": 1.2,
        },
        encoder_clips=replace(
            clips,
            num_people=4,
            clips_per_person=6,
            reference_odds=(1.0,),
            deck=replace(deck, num_rigs=16, batches_per_deal=8, seed=50),
        ),
        num_encoder_batches=math.ceil(7.5 * minutes),
        encoder=EncoderTraining(loop=loop(0.08, 2e-3, weight_decay=0.02, warmup_steps=50), batch_size=64),
        hours=minutes / 40,
        audio=AudioTraining(loop=loop(0.12, 2e-3, weight_decay=2e-2, warmup_steps=50, ema_decay=0.99)),
        generator=(motion, firmly, places),
    )
