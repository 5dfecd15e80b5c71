"""Recipes: everything that fixes a training run, as one value."""

import math
from dataclasses import dataclass, replace

from vivavoz.errors import ConfigError
from vivavoz.presets import Preset, lite
from vivavoz.train.audio_training import AudioTraining
from vivavoz.train.clips import ClipConfig
from vivavoz.train.encoder_training import EncoderTraining
from vivavoz.train.generator_training import GeneratorTraining
from vivavoz.train.vae_training import VAETraining


@dataclass(frozen=True, kw_only=True)
class VAEPhase:
    """A stretch of the VAE's training: what it sees and how it learns."""

    clips: ClipConfig
    training: VAETraining


@dataclass(frozen=True, kw_only=True)
class LiteRecipe:
    """A training of the embedded model from portraits and speech: VAE, audio encoder, generator, one after another."""

    preset: Preset
    vae: tuple[VAEPhase, ...]
    """Each phase goes on from the weights of the one before; the first shapes E1."""
    encoder_clips: ClipConfig
    """What E2 first learns from, after the VAE's first phase."""
    num_encoder_batches: int
    encoder: EncoderTraining
    audio: AudioTraining
    generator: tuple[GeneratorTraining, ...]
    """Each phase goes on from the averaged weights of the one before."""
    num_held_portraits: int = 20
    """Portraits that are kept for evaluation; of few portraits, at most a seventh."""
    num_held_readers: int = 30
    """The same for recordings."""
    portraits_per_reader: int = 4
    """Portraits that perform to each recording, each in its own way."""
    num_render_processes: int = 1
    """Processes that animate portraits while the VAE trains; 0: none of their own."""
    seed: int = 0
    """Of the first weights, and of who performs to which recording."""

    @property
    def budget_s(self) -> float:
        """Seconds of training, all phases together."""
        phases_s = [*(phase.training.budget_s for phase in self.vae), self.encoder.budget_s, self.audio.budget_s]
        return sum(phases_s) + sum(training.budget_s for training in self.generator)


def lite_recipe(minutes: float = 120.0) -> LiteRecipe:
    """The recipe of the weights that ship: `minutes` of training in all, the preparation of data not counted.

    The VAE learns to move portraits from the animator's flows alone; E2 learns to write labels from the features of the E1 that
    this has shaped. The decoder goes on with pixels and more references; then all of it works together. The audio encoder learns
    to hear lips. The generator learns motion on a single place of the latents, which is cheapest and says it all as label
    latents are alike everywhere, and then gets used to their real size.

    Raises:
        ConfigError: `minutes` is not a positive number.
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise ConfigError(f"got {minutes} minutes of training, expected a positive number: 120 is usual")
    total_s = 60.0 * minutes
    preset = lite()
    size = preset.working_size
    clips = ClipConfig(num_people=3, clips_per_person=2, num_frames=1, size=size, num_rigs=18)
    learning = VAETraining(
        budget_s=1,
        learning_rate=1e-3,
        mask_weight=4.0,
        paint_weight=3.0,
        latent_weight=3.0,
        freeze_e1=True,
        joint_odds=0.0,
        encoder_every=10**9,
    )
    flows = VAEPhase(
        clips=replace(clips, reference_odds=(0.0, 1.0), seed=1),
        training=replace(learning, budget_s=0.21 * total_s, pixel_weight=0.0, paint_weight=1.0, freeze_e1=False),
    )
    pixels = VAEPhase(
        clips=replace(clips, reference_odds=(0.03, 0.67, 0.18, 0.12), seed=2),
        training=replace(learning, budget_s=0.15 * total_s, learning_rate=8e-4, pixel_weight=0.06, warmup_steps=50),
    )
    together = VAEPhase(
        clips=replace(clips, reference_odds=(0.01, 0.62, 0.19, 0.18), seed=3),
        training=replace(
            learning,
            budget_s=0.25 * total_s,
            learning_rate=6e-4,
            pixel_weight=0.4,
            freeze_e1=False,
            joint_start=0.0,
            joint_odds=1.0,
            encoder_every=1,
            place_weight=0.0,
            warmup_steps=50,
        ),
    )
    motion = GeneratorTraining(budget_s=0.19 * total_s, batch_size=32, num_latents=12, latent_side=1, ema_decay=0.99)
    places = GeneratorTraining(
        budget_s=0.07 * total_s,
        batch_size=12,
        num_latents=16,
        latent_side=size // preset.vae.spatial_factor,
        learning_rate=4e-4,
        warmup_steps=20,
        ema_decay=0.99,
        seed=7,
    )
    return LiteRecipe(
        preset=preset,
        vae=(flows, pixels, together),
        encoder_clips=replace(
            clips, num_people=4, clips_per_person=6, reference_odds=(1.0,), num_rigs=16, clips_per_rig=2, seed=50
        ),
        num_encoder_batches=math.ceil(7.5 * minutes),
        encoder=EncoderTraining(budget_s=0.08 * total_s, batch_size=64, learning_rate=3e-3),
        audio=AudioTraining(budget_s=0.05 * total_s),
        generator=(motion, places),
    )
