"""From a trained model to one that needs few steps and no guidance: runs of `vivavoz.train.student_training`.

What a run leaves in its folder: `recipe.json`, which also knows the teacher; a folder with checkpoint and log for every phase;
and at the end `weights/`, a whole model that knows how its student is to be sampled.
"""

import copy
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vivavoz.data.corpus import Prepared, prepare_portraits, prepare_speech
from vivavoz.data.latents.reading import LatentWindowConfig, LatentWindows
from vivavoz.engine.model import Model
from vivavoz.engine.weights import GENERATOR_FILE, find_weights, load
from vivavoz.train.checkpoint import load_part
from vivavoz.train.distributed import ALONE, Parallel
from vivavoz.train.generator_training import GeneratorObjective, Take, hear
from vivavoz.train.lite import make_takes, training_part
from vivavoz.train.loop import is_done
from vivavoz.train.paper_training import compute_device, fetch_encoder, prepare_blocks, save_weights, share_of, train_windows
from vivavoz.train.phases import Phases
from vivavoz.train.run_folder import Trained, begin_run
from vivavoz.train.student_recipes import LabelStudentRecipe, LatentStudentRecipe
from vivavoz.train.student_training import Distillation, LabelStudentObjective, LatentStudentObjective


@dataclass(frozen=True, kw_only=True)
class StudentRun:
    """What decides a run, beside its data."""

    recipe: LabelStudentRecipe | LatentStudentRecipe
    teacher_sha256: str
    """Of the file with the teacher's generator."""


def train_label_student(
    teacher: str | os.PathLike[str],
    portraits_dir: Path,
    speech_dir: Path,
    out: Path,
    recipe: LabelStudentRecipe,
    *,
    num_processes: int = 1,
    report: Callable[[Prepared | Trained], None] | None = None,
) -> Path:
    """Distil a generator of label latents, as `train_lite` makes them; gives `out/weights`.

    A run that was stopped goes on where it was when called again.

    Args:
        teacher: a folder with a trained model, or a preset's name.
        portraits_dir: pictures of faces, one person each: those that the teacher learnt from.
        speech_dir: recordings of English speech: likewise.
        out: the run's folder.
        recipe: phases, budgets and what the student shall do.
        num_processes: how many recordings to prepare at a time.
        report: told about every prepared file and, every few steps, about the training.

    Raises:
        ConfigError: no such model.
        DataError: a folder that is missing or holds nothing that can be used, MediaPipe or pocketsphinx missing, or `out` holds
            a run of another recipe or teacher, or a damaged checkpoint.
        OutputError: `out` cannot be written.
        WeightsError: weights that cannot be used.
    """
    model, run = _take_up(teacher, recipe)
    begin_run(out, run)
    phases = Phases(out, recipe.budget_s, report)
    trainings = {f"student-{number}": training for number, training in enumerate(recipe.phases, 1)}
    takes: list[Take] = []
    if not all(phases.is_done(name, training.loop) for name, training in trainings.items()):
        portraits = prepare_portraits(portraits_dir, out / "corpus", report=report)
        readers = prepare_speech(speech_dir, out / "corpus", num_processes=num_processes, report=report)
        portraits, readers = training_part(
            portraits, readers, out, num_held_portraits=recipe.num_held_portraits, num_held_readers=recipe.num_held_readers
        )
        takes = make_takes(readers, portraits, model.audio, hours=recipe.hours, seed=recipe.seed)
        takes = hear(model.audio.encoder, takes)
    guided = copy.deepcopy(model.generator)
    for name, training in trainings.items():
        if not phases.is_done(name, training.loop):
            windows = GeneratorObjective(guided, takes, training)
            objective = LabelStudentObjective(model.generator, guided, recipe.distillation, training, windows.latents.num_labels)
            phases.train(name, objective, windows.batches, training.loop)
        phases.finish(name, training.loop, part="generator", module=model.generator)
    return _finish(model, out, recipe.distillation, ALONE)


def train_latent_student(
    teacher: str | os.PathLike[str],
    latents: str,
    out: Path,
    recipe: LatentStudentRecipe,
    *,
    parallel: Parallel = ALONE,
    accumulate_steps: int = 1,
    num_workers: int = 0,
    report: Callable[[Trained], None] | None = None,
) -> Path:
    """Distil a generator on cached latents, as `train_latents` makes them; gives `out/weights`.

    Args:
        teacher: a folder with a trained model, or a preset's name.
        latents: what `encode_corpus` wrote: a path or any fsspec URL.
        out: the run's folder; all processes must see it.
        recipe: length, sizes and what the student shall do.
        parallel: as for `train_latents`, as are the following.
        accumulate_steps: likewise.
        num_workers: likewise.
        report: likewise.

    Raises:
        ConfigError: no such model, or a step's windows cannot be divided among processes and batches.
        DataError: no latents, none of the length, of another preset's VAE, or `out` holds another run.
        OutputError: `out` cannot be written.
        WeightsError: weights that cannot be used.
    """
    model, run = _take_up(teacher, recipe)
    config = LatentWindowConfig(
        batch_size=share_of(recipe.batch_size, parallel, accumulate_steps),
        num_latents=recipe.num_latents,
        num_references=model.preset.generator.max_references,
        start_odds=recipe.start_odds,
        seed=recipe.seed,
    )
    windows = LatentWindows(latents, config)
    if parallel.is_first:
        begin_run(out, run)
    fetch_encoder(latents, out / "vae", model.preset)
    folder = out / "student"
    if not is_done(folder, recipe.loop):
        guided = copy.deepcopy(model.generator)
        prepare_blocks(model.generator, checkpointing=recipe.checkpointing, compiled=recipe.compiled)
        objective = LatentStudentObjective(model.generator, guided, recipe.distillation, model.audio.encoder)
        objective.to(compute_device())
        train_windows("student", objective, windows, recipe.loop, folder, parallel, accumulate_steps, num_workers, report)
        model = load(find_weights(teacher), device="cpu")
    load_part(folder, "generator", model.generator)
    return _finish(model, out, recipe.distillation, parallel)


def _take_up(teacher: str | os.PathLike[str], recipe: LabelStudentRecipe | LatentStudentRecipe) -> tuple[Model, StudentRun]:
    """The teacher's model, in whose generator the student grows, and what the run is."""
    folder = find_weights(teacher)
    model = load(folder, device="cpu")
    model.requires_grad_(True)
    with (folder / GENERATOR_FILE).open("rb") as file:
        return model, StudentRun(recipe=recipe, teacher_sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _finish(model: Model, out: Path, distillation: Distillation, parallel: Parallel) -> Path:
    """Save the model, which from now on is sampled as its student was trained."""
    model.preset = replace(model.preset, sampling=distillation.sampling(model.preset.sampling))
    return save_weights(model, out, parallel)
