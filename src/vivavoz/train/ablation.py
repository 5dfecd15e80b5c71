"""The paper's table 2 in small: reference guidance and CR-VA, each on and off, in the architecture of the paper at a small width.

Four VAEs learn from the same clips with the same number of steps: with and without the shortcuts of CR-VA, with and without
D_ref's cross-attention. Those with references see 1 to 3 of them, drawn anew in each step; one VAE gives the rows M = 1, 2, 3.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from numpy.typing import NDArray

from vivavoz.config_json import from_plain, to_plain
from vivavoz.data.shards.reading import ResidentWindows, WindowBatch, WindowConfig, window_loader
from vivavoz.errors import ConfigError
from vivavoz.evaluate.clips import MAX_REFERENCES, ClipsResult, HeldClips, evaluate_clips
from vivavoz.train.checkpoint import load_part
from vivavoz.train.loop import LoopConfig, is_done, train
from vivavoz.train.perceptual import Perceptual
from vivavoz.train.run_folder import Trained, begin_run
from vivavoz.train.video_training import VideoObjective, VideoTraining
from vivavoz.vae.config import VAEConfig
from vivavoz.vae.vae import VAE

MEASURED_FILE = "measured.json"


@dataclass(frozen=True, kw_only=True)
class AblationRecipe:
    """What all arms have in common."""

    vae: VAEConfig
    """Of the whole method; arms switch parts of it off."""
    loop: LoopConfig
    training: VideoTraining
    batch_size: int
    num_frames: int
    size_px: int
    seeds: tuple[int, ...]
    """Every arm is trained once for each: first weights, order of the data, and noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One training."""

    residual: bool
    references: bool
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{'cr-va' if self.residual else 'plain'}-{'references' if self.references else 'alone'}-{self.seed}"

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of references that it is measured with."""
        return tuple(range(1, MAX_REFERENCES + 1)) if self.references else (0,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What came of an arm."""

    arm: Arm
    num_parameters: int
    spent_s: float
    """Of training."""
    perceptual: str
    """Name of the distance."""
    clips: tuple[ClipsResult, ...]
    """One of each corpus."""


def ablation_recipe(num_steps: int, seeds: Sequence[int] = (0,)) -> AblationRecipe:
    """Clips of 5 frames at 64 px, VAEs of 2.8M parameters: 1,000 steps of an arm take a few minutes of a core.

    Raises:
        ConfigError: no steps or no seeds.
    """
    if num_steps < 1 or not seeds:
        raise ConfigError(f"got {num_steps} steps and {len(seeds)} seeds, expected at least one of each")
    return AblationRecipe(
        vae=small_vae_config(),
        loop=LoopConfig(
            num_steps=num_steps,
            learning_rate=2e-3,
            warmup_steps=max(1, num_steps // 20),
            final_rate=0.02,
            ema_decay=0.99,
            log_every_steps=max(1, min(25, num_steps)),
        ),
        training=VideoTraining(perceptual_weight=0.0, kl_weight=1e-5),
        batch_size=4,
        num_frames=5,
        size_px=64,
        seeds=tuple(seeds),
    )


def small_vae_config() -> VAEConfig:
    """The paper's architecture at a sixteenth of its width; convolutions in time only where pictures are small."""
    return VAEConfig(
        encoder1_channels=(4, 16, 32, 64),
        encoder1_blocks=(0, 0, 1, 1),
        feature_channels=64,
        encoder2_channels=(64, 64),
        decoder1_channels=(64, 64),
        decoder2_channels=(64, 32, 16, 4),
        decoder2_blocks=(1, 1, 0, 0),
        fusion_blocks=2,
        fusion_head_dim=16,
        outer_temporal_kernel=1,
    )


def arms_of(recipe: AblationRecipe) -> list[Arm]:
    """All trainings, seed by seed, so that a run that is stopped has whole tables of the first seeds."""
    switches = itertools.product(recipe.seeds, (True, False), (True, False))
    return [Arm(residual=residual, references=references, seed=seed) for seed, residual, references in switches]


def arm_vae(recipe: AblationRecipe, arm: Arm) -> VAE:
    """An arm's VAE with its first weights."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(arm.seed)
        return VAE(replace(recipe.vae, residual=arm.residual, references=arm.references))


def run_ablation(
    shards: str,
    held: Sequence[HeldClips],
    out: Path,
    recipe: AblationRecipe,
    perceptual: Perceptual,
    *,
    report: Callable[[Trained], None] | None = None,
) -> list[Measured]:
    """Train and measure every arm, each in its folder of `out`; goes on where an earlier call was stopped.

    Args:
        shards: the corpus to learn from.
        held: clips to measure on.
        out: the run's folder.
        recipe: sizes and lengths.
        perceptual: the distance that is measured, and learnt from where the recipe gives it a weight.
        report: told about the training.

    Raises:
        DataError: no corpus, no clips of the length, or `out` holds another run.
        OutputError: `out` cannot be written.
    """
    begin_run(out, recipe)
    clips: dict[str, NDArray] = {}
    results: list[Measured] = []
    for arm in arms_of(recipe):
        folder = out / arm.name
        known = _measured(folder, held, perceptual)
        results.append(known or _run_arm(arm, shards, held, folder, recipe, perceptual, clips, report))
    return results


def _run_arm(
    arm: Arm,
    shards: str,
    held: Sequence[HeldClips],
    folder: Path,
    recipe: AblationRecipe,
    perceptual: Perceptual,
    clips: dict[str, NDArray],
    report: Callable[[Trained], None] | None,
) -> Measured:
    vae, loop = arm_vae(recipe, arm), replace(recipe.loop, seed=arm.seed)
    config = WindowConfig(
        batch_size=recipe.batch_size,
        num_frames=recipe.num_frames,
        reference_odds=(0.0,) + (1 / MAX_REFERENCES,) * MAX_REFERENCES if arm.references else (1.0,),
        arrays=False,
        seed=arm.seed,
    )
    windows = ResidentWindows(shards, config, side_px=recipe.size_px, clips=clips)

    def batches(first_step: int) -> Iterable[WindowBatch]:
        return window_loader(windows, start=first_step)

    def tell(line: dict[str, float]) -> None:
        if report is not None:
            spent_s = line["seconds"]
            report(Trained.from_line(arm.name, line, spent_s=spent_s, budget_s=spent_s * loop.num_steps / line["step"]))

    if not is_done(folder, loop):
        train(VideoObjective(vae, recipe.training, perceptual, size_px=recipe.size_px), batches, loop, folder, report=tell)
    progress = load_part(folder, "vae", vae)
    vae.eval()
    measured = Measured(
        arm=arm,
        num_parameters=sum(parameter.numel() for parameter in vae.parameters()),
        spent_s=progress.seconds,
        perceptual=perceptual.name,
        clips=tuple(evaluate_clips(vae, one, perceptual, arm.counts)[0] for one in held),
    )
    (folder / MEASURED_FILE).write_text(json.dumps(to_plain(measured), indent=2) + "\n", encoding="utf-8")
    return measured


def _measured(folder: Path, held: Sequence[HeldClips], perceptual: Perceptual) -> Measured | None:
    """What was found before, if it was on these clips and with this distance."""
    path = folder / MEASURED_FILE
    try:
        found = from_plain(Measured, json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError, ConfigError):
        return None  # never measured, or not whole: measured now
    same = [(one.corpus, one.keys) for one in found.clips] == [(one.corpus, one.keys) for one in held]
    return found if same and found.perceptual == perceptual.name else None
