"""Recipes: everything that fixes a training run, as one value."""

import math
from dataclasses import dataclass

from vivavoz.errors import ConfigError
from vivavoz.presets import Preset, lite
from vivavoz.train.audio_training import AudioTraining
from vivavoz.train.clips import ClipConfig
from vivavoz.train.generator_training import GeneratorTraining
from vivavoz.train.vae_training import VAETraining


@dataclass(frozen=True, kw_only=True)
class VAEPhase:
    """A stretch of the VAE's training: what it sees and how it learns."""

    clips: ClipConfig
    training: VAETraining


@dataclass(frozen=True, kw_only=True)
class LiteRecipe:
    """A training of the embedded model from portraits and speech: VAE, audio encoder and generator, one after the other."""

    preset: Preset
    vae: tuple[VAEPhase, ...]
    """Each phase goes on from the weights of the one before."""
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
        return sum([*(phase.training.budget_s for phase in self.vae), self.audio.budget_s, *(g.budget_s for g in self.generator)])


def lite_recipe(minutes: float = 120.0) -> LiteRecipe:
    """The recipe of the weights that ship: `minutes` of training in all, the preparation of the corpora not counted.

    The VAE learns to move portraits from the animator's flows alone, then from pixels, then over time. The audio encoder learns to
    hear lips. The generator learns motion where label latents, alike everywhere, are cheapest, and then at their real size.

    Raises:
        ConfigError: `minutes` is not a positive number.
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise ConfigError(f"got {minutes} minutes of training, expected a positive number: 120 is usual")
    total_s = 60.0 * minutes
    preset = lite()
    size = preset.working_size
    flows = VAEPhase(
        clips=ClipConfig(num_people=2, clips_per_person=3, num_frames=1, size=size, reference_odds=(0.0, 1.0, 0.0, 0.0), seed=1),
        training=VAETraining(
            budget_s=0.17 * total_s, learning_rate=1.5e-3, pixel_weight=0.0, joint_odds=0.0, encoder_every=5, warmup_steps=50
        ),
    )
    pixels = VAEPhase(
        clips=ClipConfig(num_people=2, clips_per_person=3, num_frames=1, size=size, reference_odds=(0.03, 0.72, 0.15, 0.1), seed=2),
        training=VAETraining(budget_s=0.24 * total_s, joint_odds=0.0, encoder_every=10**9, warmup_steps=30),
    )
    frames = VAEPhase(
        clips=ClipConfig(
            num_people=2, clips_per_person=2, num_frames=5, size=size, reference_odds=(0.04, 0.64, 0.18, 0.14), seed=3
        ),
        training=VAETraining(
            budget_s=0.13 * total_s, learning_rate=6e-4, joint_odds=0.0, encoder_every=10**9, warmup_steps=30
        ),
    )
    motion = GeneratorTraining(budget_s=0.28 * total_s, batch_size=32, num_latents=12, latent_side=1, ema_decay=0.99)
    places = GeneratorTraining(
        budget_s=0.1 * total_s,
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
        vae=(flows, pixels, frames),
        audio=AudioTraining(budget_s=0.08 * total_s),
        generator=(motion, places),
    )
