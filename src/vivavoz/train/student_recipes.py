"""Recipes of students: how a trained model's generator is distilled, as values. The model itself brings all sizes along."""

import math
from dataclasses import dataclass, replace

from vivavoz.errors import ConfigError
from vivavoz.presets import lite
from vivavoz.train.generator_training import GeneratorTraining
from vivavoz.train.loop import LoopConfig
from vivavoz.train.paper_recipes import shortened
from vivavoz.train.recipes import LiteRecipe
from vivavoz.train.student_training import Distillation


@dataclass(frozen=True, kw_only=True)
class LabelStudentRecipe:
    """Distilling a generator of label latents, from portraits and speech."""

    distillation: Distillation
    phases: tuple[GeneratorTraining, ...]
    """Windows and lengths; each phase goes on from the averaged weights of the one before."""
    hours: float
    """Of performances to learn from."""
    num_held_portraits: int = LiteRecipe.num_held_portraits
    """Not trained on, as for the teacher."""
    num_held_readers: int = LiteRecipe.num_held_readers
    """Likewise."""
    seed: int = 0
    """Of who performs to which recording."""

    @property
    def budget_s(self) -> float:
        """Seconds of training, all phases together."""
        return sum(phase.loop.budget_s for phase in self.phases)


@dataclass(frozen=True, kw_only=True)
class LatentStudentRecipe:
    """Distilling a generator on cached latents."""

    distillation: Distillation
    loop: LoopConfig
    batch_size: int
    """Windows of a step, over all processes."""
    num_latents: int
    """Latent frames of a window."""
    start_odds: float = 0.3
    """How often the windows of a batch start a video."""
    checkpointing: bool = False
    """Compute activations twice instead of keeping them."""
    compiled: bool = False
    """Compile the blocks."""
    seed: int = 0
    """Of the data's order."""


def lite_student_recipe(minutes: float = 20.0) -> LabelStudentRecipe:
    """The recipe of the student that ships: `minutes` of training, the preparation of data not counted.

    Most is learnt on a single place of the latents, as by the teacher; then the student gets used to their real size.

    Raises:
        ConfigError: `minutes` is not a positive number.
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise ConfigError(f"got {minutes} minutes of training, expected a positive number: 20 is usual")
    loop = LoopConfig(budget_s=60 * minutes, learning_rate=3e-4, warmup_steps=10, weight_decay=0.0, ema_decay=0.97)
    preset = lite()
    place = GeneratorTraining(
        loop=replace(loop, budget_s=0.5 * loop.budget_s, seed=31),
        batch_size=8,
        num_latents=16,
        latent_side=1,
        free_odds=0.3,
        angle_weight=6.0,
        overheard_odds=0.5,
        astray=0.7,
    )
    places = replace(
        place,
        loop=replace(loop, budget_s=0.5 * loop.budget_s, learning_rate=2e-4, seed=32),
        batch_size=2,
        num_latents=16,
        latent_side=preset.working_size // preset.vae.spatial_factor,
    )
    return LabelStudentRecipe(distillation=Distillation(guidance_audio=2.0), phases=(place, places), hours=minutes / 40)


def paper_student_recipe() -> LatentStudentRecipe:
    """Of the published generator: its 12 steps of three branches in 4 of one. Nothing of it is the paper's."""
    return LatentStudentRecipe(
        distillation=Distillation(num_steps=4, teacher_steps=12, timestep_shift=5.0, guidance_audio=2.0, guidance_reference=2.0),
        loop=LoopConfig(
            num_steps=10_000,
            learning_rate=2e-5,
            warmup_steps=200,
            final_rate=0.1,
            weight_decay=0.0,
            betas=(0.9, 0.95),
            ema_decay=0.999,
            bf16=True,
        ),
        batch_size=64,
        num_latents=32,
        checkpointing=True,
        compiled=True,
    )


def tiny_student_recipe() -> LatentStudentRecipe:
    """Seconds on a CPU."""
    return LatentStudentRecipe(
        distillation=Distillation(num_steps=2, teacher_steps=4, guidance_audio=2.0, guidance_reference=2.0),
        loop=LoopConfig(num_steps=40, learning_rate=1e-3, warmup_steps=5, ema_decay=0.9, log_every_steps=5),
        batch_size=4,
        num_latents=8,
    )


LATENT_STUDENT_RECIPES = {"paper": paper_student_recipe, "tiny": tiny_student_recipe}


def shortened_student(recipe: LatentStudentRecipe, num_steps: int) -> LatentStudentRecipe:
    """The same with at most so many steps."""
    return replace(recipe, loop=shortened(recipe.loop, num_steps))
