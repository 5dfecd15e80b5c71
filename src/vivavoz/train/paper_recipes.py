"""The published trainings (paper 4.1, supplement B) as values, and tiny ones for a first look.

What the paper gives is marked P: lengths, batches, numbers of steps, learning rates of the VAE, drop and noise of the generator.
The rest is ours: the weights of the losses, warm-up, weight decay, averages, the generator's learning rate, and how often a batch
has how many references.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vivavoz.errors import ConfigError
from vivavoz.presets import Preset, paper, tiny
from vivavoz.train.latent_training import LatentTraining
from vivavoz.train.loop import LoopConfig
from vivavoz.train.video_training import VideoTraining


@dataclass(frozen=True, kw_only=True)
class VideoPhase:
    """A stretch of the VAE's training; each goes on from the averaged weights of the one before, with a fresh optimizer."""

    num_frames: int
    """Of a clip, 1 + 4n."""
    size_px: int
    batch_size: int
    """Clips of a step, over all processes."""
    loop: LoopConfig


@dataclass(frozen=True, kw_only=True)
class VideoRecipe:
    """A training of a video VAE from shards of clips."""

    preset: Preset
    phases: tuple[VideoPhase, ...]
    training: VideoTraining
    reference_odds: tuple[float, ...] = (0.1, 0.3, 0.3, 0.3)
    """How often a step has 0, 1, 2, 3 references."""
    checkpointing: bool = False
    """Compute activations twice instead of keeping them; see `vivavoz.train.memory`."""
    compiled: bool = False
    """Compile the blocks."""
    seed: int = 0
    """Of the first weights and of the data's order."""


@dataclass(frozen=True, kw_only=True)
class LatentRecipe:
    """A training of a generator from cached latents."""

    preset: Preset
    loop: LoopConfig
    batch_size: int
    """Windows of a step, over all processes."""
    num_latents: int
    """Latent frames of a window."""
    start_odds: float = 0.3
    """How often the windows of a batch start a video."""
    training: LatentTraining
    checkpointing: bool = False
    compiled: bool = False
    seed: int = 0


def paper_vae_recipe() -> VideoRecipe:
    """A week of 128 H100 in the paper: clips of 5, 17 and 73 frames at 256 px, then the last two again at 512 px.

    The last fine-tuning is "over 40k iterations" for both lengths together, as we read it.
    """
    slow = LoopConfig(num_steps=80_000, learning_rate=1e-5, final_rate=1.0, betas=(0.9, 0.99), ema_decay=0.999, bf16=True)  # P
    first = replace(slow, num_steps=400_000, learning_rate=1e-4, final_rate=0.1, warmup_steps=1_000)  # P: 1e-4 to 1e-5
    last = replace(slow, num_steps=20_000)
    return VideoRecipe(
        preset=paper(),
        phases=(
            VideoPhase(num_frames=5, size_px=256, batch_size=512, loop=first),  # P
            VideoPhase(num_frames=17, size_px=256, batch_size=256, loop=slow),  # P
            VideoPhase(num_frames=73, size_px=256, batch_size=128, loop=slow),  # P
            VideoPhase(num_frames=17, size_px=512, batch_size=256, loop=last),  # P but for the batch
            VideoPhase(num_frames=73, size_px=512, batch_size=128, loop=last),  # P but for the batch
        ),
        training=VideoTraining(perceptual_frames=5),
        checkpointing=True,
        compiled=True,
    )


def paper_generator_recipe() -> LatentRecipe:
    """Three days of 128 H100 in the paper. Its audio encoder is Wav2Lip's, trained; without those weights it learns here too."""
    return LatentRecipe(
        preset=paper(),
        loop=LoopConfig(
            num_steps=250_000,  # P
            learning_rate=1e-4,
            warmup_steps=1_000,
            final_rate=0.1,
            betas=(0.9, 0.95),
            ema_decay=0.9999,
            bf16=True,
        ),
        batch_size=256,  # P
        num_latents=32,  # P
        training=LatentTraining(),  # P
        checkpointing=True,
        compiled=True,
    )


def tiny_vae_recipe() -> VideoRecipe:
    """Seconds on a CPU: every part of the training, and nothing to look at."""
    loop = LoopConfig(num_steps=20, learning_rate=2e-3, warmup_steps=5, ema_decay=0.9, log_every_steps=5)
    return VideoRecipe(
        preset=tiny(),
        phases=(
            VideoPhase(num_frames=5, size_px=64, batch_size=4, loop=loop),
            VideoPhase(num_frames=17, size_px=64, batch_size=2, loop=replace(loop, num_steps=10, final_rate=1.0)),
        ),
        training=VideoTraining(),
    )


def tiny_generator_recipe() -> LatentRecipe:
    """Seconds on a CPU."""
    return LatentRecipe(
        preset=tiny(),
        loop=LoopConfig(num_steps=40, learning_rate=2e-3, warmup_steps=5, ema_decay=0.9, log_every_steps=5),
        batch_size=4,
        num_latents=8,
        training=LatentTraining(),
    )


VAE_RECIPES = {"paper": paper_vae_recipe, "tiny": tiny_vae_recipe}
GENERATOR_RECIPES = {"paper": paper_generator_recipe, "tiny": tiny_generator_recipe}


def shortened_video(recipe: VideoRecipe, num_steps: int) -> VideoRecipe:
    """The same with at most so many steps in each phase."""
    return replace(recipe, phases=tuple(replace(phase, loop=shortened(phase.loop, num_steps)) for phase in recipe.phases))


def shortened_latent(recipe: LatentRecipe, num_steps: int) -> LatentRecipe:
    """The same with at most so many steps."""
    return replace(recipe, loop=shortened(recipe.loop, num_steps))


def shortened(loop: LoopConfig, num_steps: int) -> LoopConfig:
    """The same with at most so many steps, and as much less warm-up. Raises `ConfigError` for less than one."""
    if num_steps < 1:
        raise ConfigError(f"got {num_steps} steps, expected at least 1")
    fewer = min(loop.num_steps, num_steps)
    return replace(
        loop,
        num_steps=fewer,
        warmup_steps=min(loop.warmup_steps, max(1, fewer // 10)),
        log_every_steps=min(loop.log_every_steps, max(1, fewer // 5)),
    )
