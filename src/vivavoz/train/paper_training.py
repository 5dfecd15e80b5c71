"""The published method, trained: a video VAE from shards of clips, then a generator from the latents it gives.

What a run leaves in its folder: `recipe.json`; a folder with checkpoint and log for every phase; and at the end `weights/`. A run
that was stopped goes on where it was. Every step's data and draws follow from the recipe, the number of the step, and into how
many batches its windows are divided: processes times batches that a process takes one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivavoz.audio.encoder import AudioEncoder, load_wav2lip_weights
from vivavoz.data.latents.encoding import fetch_weights
from vivavoz.data.latents.reading import LatentWindowConfig, LatentWindows
from vivavoz.data.shards.clip import SIZES_PX
from vivavoz.data.shards.reading import ShardWindows, WindowConfig, window_loader
from vivavoz.engine.model import Model
from vivavoz.engine.weights import load, read_preset, save_model
from vivavoz.errors import ConfigError, DataError
from vivavoz.generator.generator import Generator
from vivavoz.presets import Preset
from vivavoz.train.checkpoint import load_part
from vivavoz.train.distributed import ALONE, Parallel
from vivavoz.train.latent_training import LatentObjective
from vivavoz.train.loop import LoopConfig, Objective, is_done, train
from vivavoz.train.memory import checkpoint_blocks, compile_blocks
from vivavoz.train.paper_recipes import LatentRecipe, VideoPhase, VideoRecipe
from vivavoz.train.perceptual import Perceptual
from vivavoz.train.run_folder import Trained, begin_run
from vivavoz.train.video_training import VideoObjective
from vivavoz.vae.vae import VAE

B = TypeVar("B")
M = TypeVar("M", bound=nn.Module)
Report: TypeAlias = Callable[[Trained], None]

_SHOWN_LATENTS = 3
"""Of a window that is decoded to be looked at."""


def train_video(
    shards: str,
    out: Path,
    recipe: VideoRecipe,
    perceptual: Perceptual,
    *,
    parallel: Parallel = ALONE,
    accumulate_steps: int = 1,
    num_workers: int = 0,
    report: Report | None = None,
) -> Path:
    """Train a VAE; gives `out/weights`, whose generator is still untrained.

    Args:
        shards: the corpus: a path or any fsspec URL.
        out: the run's folder; all processes must see it.
        recipe: phases and sizes.
        perceptual: the second term of the loss; see `choose_perceptual`.
        parallel: the processes that share the work.
        accumulate_steps: batches that a process takes one after the other for a step: more of them need less memory.
        num_workers: processes that decode clips, for each that trains.
        report: told about the training, every few steps.

    Raises:
        ConfigError: a step's windows cannot be divided among processes and batches.
        DataError: no corpus, no clips of the length, or `out` holds a run of another recipe or a damaged checkpoint.
        OutputError: `out` cannot be written.
    """
    if parallel.is_first:
        begin_run(out, recipe)
    for number, phase in enumerate(recipe.phases, 1):
        folder = _phase_folder(out, number)
        windows = ShardWindows(shards, _window_config(recipe, number, parallel, accumulate_steps))
        if not is_done(folder, phase.loop):
            vae = _initialised(lambda: VAE(recipe.preset.vae), recipe.seed)
            if number > 1:
                load_part(_phase_folder(out, number - 1), "vae", vae)
            prepare_blocks(vae, checkpointing=recipe.checkpointing, compiled=recipe.compiled)
            objective = VideoObjective(vae, recipe.training, perceptual, size_px=phase.size_px).to(compute_device())
            name = f"vae {number}/{len(recipe.phases)}, {phase.num_frames} frames at {phase.size_px}"
            train_windows(name, objective, windows, phase.loop, folder, parallel, accumulate_steps, num_workers, report)
    model = Model.initialised(recipe.preset, recipe.seed)
    load_part(_phase_folder(out, len(recipe.phases)), "vae", model.vae)
    return save_weights(model, out, parallel)


def train_latents(
    latents: str,
    out: Path,
    recipe: LatentRecipe,
    *,
    wav2lip: Path | None = None,
    parallel: Parallel = ALONE,
    accumulate_steps: int = 1,
    num_workers: int = 0,
    report: Report | None = None,
) -> Path:
    """Train a generator; gives `out/weights`: with the VAE that made the latents, all that `vivavoz generate` needs.

    Args:
        latents: what `encode_corpus` wrote: a path or any fsspec URL.
        out: the run's folder; all processes must see it.
        recipe: length and sizes.
        wav2lip: public checkpoint whose audio encoder is used as it is, as in the paper; None: one is learnt along.
        parallel: as for `train_video`, as are the following.
        accumulate_steps: likewise.
        num_workers: likewise.
        report: likewise.

    Raises:
        ConfigError: a step's windows cannot be divided among processes and batches.
        DataError: no latents, none of the length, of another preset's VAE, or `out` holds another run.
        OutputError: `out` cannot be written.
        WeightsError: weights or `wav2lip` cannot be used.
    """
    recipe = replace(recipe, training=replace(recipe.training, train_audio=wav2lip is None))
    config = LatentWindowConfig(
        batch_size=share_of(recipe.batch_size, parallel, accumulate_steps),
        num_latents=recipe.num_latents,
        num_references=recipe.preset.generator.max_references,
        start_odds=recipe.start_odds,
        seed=recipe.seed,
    )
    windows = LatentWindows(latents, config)
    weights = fetch_encoder(latents, out / "vae", recipe.preset)
    if parallel.is_first:
        begin_run(out, recipe)
    folder = out / "generator"
    generator = _initialised(lambda: Generator(recipe.preset.generator), recipe.seed)
    audio = _initialised(lambda: AudioEncoder(recipe.preset.audio), recipe.seed)
    if wav2lip is not None:
        load_wav2lip_weights(audio, wav2lip)
    if not is_done(folder, recipe.loop):
        prepare_blocks(generator, checkpointing=recipe.checkpointing, compiled=recipe.compiled)
        decode = _decoder(weights) if parallel.is_first else None
        objective = LatentObjective(generator, audio, recipe.training, decode).to(compute_device())
        train_windows("generator", objective, windows, recipe.loop, folder, parallel, accumulate_steps, num_workers, report)
    trained = Model.initialised(recipe.preset, recipe.seed)
    trained.vae = load(weights, device="cpu").vae
    load_part(folder, "generator", trained.generator)
    load_part(folder, "audio", trained.audio.encoder)
    return save_weights(trained, out, parallel)


def _decoder(weights: Path) -> Callable[[Tensor], Tensor]:
    """Decodes the beginning of a window without references: the cache has no pictures of them. Reads the VAE when first asked."""
    vae: list[VAE] = []

    def decode(z: Tensor) -> Tensor:
        if not vae:
            vae.append(load(weights, device=compute_device()).vae)
        side = z.shape[-1] * vae[0].config.spatial_factor
        nobody = vae[0].encode_references(z.new_zeros(1, 0, 3, side, side))
        return vae[0].decode(z[:, :, :_SHOWN_LATENTS], nobody)

    return decode


def _window_config(recipe: VideoRecipe, number: int, parallel: Parallel, accumulate_steps: int) -> WindowConfig:
    phase: VideoPhase = recipe.phases[number - 1]
    return WindowConfig(
        batch_size=share_of(phase.batch_size, parallel, accumulate_steps),
        num_frames=phase.num_frames,
        size_px=min((size for size in SIZES_PX if size >= phase.size_px), default=max(SIZES_PX)),
        reference_odds=recipe.reference_odds,
        arrays=False,
        batches_per_step=parallel.world_size * accumulate_steps,
        seed=recipe.seed + number,
    )


def fetch_encoder(latents: str, folder: Path, preset: Preset) -> Path:
    """Copy the weights that made `latents` to `folder`. Raises `DataError` where their VAE is not `preset`'s."""
    weights = fetch_weights(latents, folder)
    if (found := read_preset(weights)).vae != preset.vae:
        raise DataError(
            f"{latents} was encoded by the {found.name!r} preset's VAE, expected {preset.name!r}: "
            "choose the recipe of that preset, or encode with such weights"
        )
    return weights


def share_of(batch_size: int, parallel: Parallel, accumulate_steps: int) -> int:
    """Windows of a process's batch. Raises `ConfigError` where they cannot be divided evenly."""
    num_batches = parallel.world_size * accumulate_steps
    if accumulate_steps < 1 or batch_size % num_batches:
        raise ConfigError(
            f"a step of {batch_size} windows cannot be divided among {parallel.world_size} processes with {accumulate_steps} "
            f"batches each: choose numbers whose product divides {batch_size}"
        )
    return batch_size // num_batches


def train_windows(
    name: str,
    objective: Objective[B],
    windows: Dataset[B],
    loop: LoopConfig,
    folder: Path,
    parallel: Parallel,
    accumulate_steps: int,
    num_workers: int,
    report: Report | None,
) -> None:
    """One phase in its folder, telling `report` about it under `name`."""
    loop = replace(loop, accumulate_steps=accumulate_steps)

    def batches(first_step: int) -> Iterable[B]:
        start = first_step * accumulate_steps
        return window_loader(windows, start=start, num_workers=num_workers, rank=parallel.rank, world_size=parallel.world_size)

    def tell(line: dict[str, float]) -> None:
        if report is not None:
            spent_s = line["seconds"]
            report(Trained.from_line(name, line, spent_s=spent_s, budget_s=spent_s * loop.num_steps / line["step"]))

    train(objective, batches, loop, folder, parallel=parallel, report=tell)


def _initialised(make: Callable[[], M], seed: int) -> M:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return make()


def prepare_blocks(module: nn.Module, *, checkpointing: bool, compiled: bool) -> None:
    """Compile a module's blocks, on a GPU, and have their activations computed twice, where asked for."""
    if compiled and torch.cuda.is_available():  # on CPUs, compiling takes longer than it saves
        compile_blocks(module)
    if checkpointing:
        checkpoint_blocks(module)


def _phase_folder(out: Path, number: int) -> Path:
    return out / f"vae-{number}"


def save_weights(model: Model, out: Path, parallel: Parallel) -> Path:
    """Write `out/weights`, by the first process."""
    weights = out / "weights"
    if parallel.is_first:
        save_model(model.eval(), weights)
    return weights


def compute_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
