"""Training the embedded model from a folder of portraits and a folder of speech to weights that can be loaded.

What a run leaves in its folder: `recipe.json`; `split.json`, the names that were trained on and those held back; `corpus/`, the
prepared files; a folder with checkpoint and log for every phase; and at the end `weights/`.

Shapes: F pictures of a recording, V portraits performing to it, L labels.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader

from vivavoz.audio.features import AudioFeatures
from vivavoz.config_json import to_plain
from vivavoz.data.corpus import Portraits, Prepared, Reader, prepare_portraits, prepare_speech, split
from vivavoz.data.performance import perform
from vivavoz.data.rig import Rig
from vivavoz.engine.model import Model
from vivavoz.engine.weights import save_model
from vivavoz.errors import DataError, OutputError
from vivavoz.timing import FRAMES_PER_LATENT, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from vivavoz.train.audio_training import train_audio_encoder
from vivavoz.train.checkpoint import read_progress, read_weights
from vivavoz.train.clips import AnimatedClips, ClipConfig, Clips
from vivavoz.train.encoder_training import collect_features, train_encoder
from vivavoz.train.generator_training import Take, hear, train_generator
from vivavoz.train.recipes import LiteRecipe
from vivavoz.train.vae_training import train_vae
from vivavoz.vae.vae import VAE


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How far a run is."""

    phase: str
    step: int
    losses: dict[str, float]
    """Means since the last report."""
    spent_s: float
    """Seconds of training so far, all phases together."""
    budget_s: float


Report: TypeAlias = Callable[[Prepared | Trained], None]


def train_lite(
    portraits_dir: Path, speech_dir: Path, out: Path, recipe: LiteRecipe, *, num_processes: int = 1, report: Report | None = None
) -> Path:
    """Train a model by `recipe` and save it as bfloat16; gives the folder with its weights, `out/weights`.

    A run that was stopped goes on where it was when called again: phases whose budget is spent are skipped.

    Args:
        portraits_dir: pictures of faces, one person each.
        speech_dir: recordings of English speech.
        out: the run's folder.
        recipe: phases and budgets.
        num_processes: how many recordings to prepare at a time.
        report: told about every prepared file and, every few steps, about the training.

    Raises:
        DataError: a folder that is missing or holds nothing that can be used, MediaPipe or pocketsphinx missing, or `out` holds
            a run of another recipe or a damaged checkpoint.
        OutputError: `out` cannot be written.
    """
    _begin(out, recipe)
    portraits = prepare_portraits(portraits_dir, out / "corpus", report=report)
    readers = prepare_speech(speech_dir, out / "corpus", num_processes=num_processes, report=report)
    portraits, readers = _training_part(portraits, readers, recipe, out)
    model = Model.initialised(recipe.preset, recipe.seed)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        _train_vae(model.vae, portraits, readers, recipe, out, report)
        _train_speech(model, portraits, readers, recipe, out, report)
    weights = out / "weights"
    save_model(model.eval(), weights)
    return weights


def make_takes(
    readers: Sequence[Reader], portraits: Portraits, audio: AudioFeatures, *, portraits_per_reader: int, seed: int
) -> list[Take]:
    """Let random portraits perform to every recording: one `Take` each, V = `portraits_per_reader`.

    The first portrait performs as `perform` does with seed 0, the others with seeds of their own.
    """
    rng = np.random.default_rng(seed)
    takes = []
    for reader in readers:
        with torch.no_grad():
            windows = audio.windows(torch.from_numpy(reader.samples)[None])[0]
        labels, reference_labels = [], []
        for variant in range(portraits_per_reader):
            who = int(rng.integers(len(portraits.names)))
            rig = Rig.from_image(portraits.images[who], portraits.landmarks[who])
            seed_of_motion = int(rng.integers(2**31)) if variant else 0
            motion = perform(reader.samples, seed=seed_of_motion, phonemes=reader.phonemes).motion
            labels.append(rig.labels(motion[: len(windows)]))
            reference_labels.append(rig.labels(rig.rest()[None])[0])
        takes.append(Take(windows[: len(labels[0])], np.stack(labels), np.stack(reference_labels)))
    return takes


def _begin(out: Path, recipe: LiteRecipe) -> None:
    """Make the run's folder, or see that it is one of this recipe."""
    text, path = json.dumps(to_plain(recipe), indent=2) + "\n", out / "recipe.json"
    try:
        if not path.exists():
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            raise DataError(f"{out} holds a run of another recipe; give the same minutes as then, or choose another folder")
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"cannot keep a run in {out} ({error}); give a folder that can be written") from error


def _training_part(portraits: Portraits, readers: list[Reader], recipe: LiteRecipe, out: Path) -> tuple[Portraits, list[Reader]]:
    """Hold portraits and readers back, write down which, and leave out recordings too short for a window."""
    seen, unseen = split(portraits.names, recipe.num_held_portraits)
    heard, unheard = split([reader.name for reader in readers], recipe.num_held_readers)
    chosen = {
        "portraits": {"train": [portraits.names[i] for i in seen], "held": [portraits.names[i] for i in unseen]},
        "readers": {"train": [readers[i].name for i in heard], "held": [readers[i].name for i in unheard]},
    }
    (out / "split.json").write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
    longest = max(training.num_latents for training in recipe.generator)
    num_samples = (FRAMES_PER_LATENT * longest + 1) * SAMPLES_PER_FRAME
    long_enough = [readers[i] for i in heard if len(readers[i].samples) >= num_samples]
    if not long_enough:
        raise DataError(
            f"all {len(heard)} recordings to train on are shorter than {num_samples / SAMPLE_RATE_HZ:.1f} s; give longer ones"
        )
    names = tuple(portraits.names[i] for i in seen)
    return Portraits(images=portraits.images[seen], landmarks=portraits.landmarks[seen], names=names), long_enough


def _train_vae(
    vae: VAE, portraits: Portraits, readers: Sequence[Reader], recipe: LiteRecipe, out: Path, report: Report | None
) -> None:
    before_s = 0.0
    performances = [perform(reader.samples, seed=recipe.seed, phonemes=reader.phonemes).motion for reader in readers]

    def animated(config: ClipConfig) -> AnimatedClips:
        return AnimatedClips(portraits.images, portraits.landmarks, config, performances)

    for number, phase in enumerate(recipe.vae, 1):
        folder = out / f"vae-{number}"
        if not _is_spent(folder / "vae.pt", phase.training.budget_s):
            tell = _teller(f"VAE {number}/{len(recipe.vae)}", before_s, recipe, report)
            train_vae(vae, animated(phase.clips), phase.training, folder, num_workers=recipe.num_render_processes, report=tell)
        vae.load_state_dict(read_weights(folder / "vae.pt", "vae"))
        before_s += phase.training.budget_s
        if number == 1:
            _train_e2(vae, animated(recipe.encoder_clips), recipe, out, before_s, report)
            before_s += recipe.encoder.budget_s


def _train_e2(vae: VAE, data: AnimatedClips, recipe: LiteRecipe, out: Path, before_s: float, report: Report | None) -> None:
    checkpoint = out / "encoder" / "encoder.pt"
    if not _is_spent(checkpoint, recipe.encoder.budget_s):
        loader = DataLoader(data, batch_size=None, num_workers=recipe.num_render_processes)
        batches = _counted(loader, recipe.num_encoder_batches, report)
        features, targets = collect_features(vae, batches, recipe.num_encoder_batches)
        tell = _teller("encoder", before_s, recipe, report)
        train_encoder(vae, features, targets, recipe.encoder, checkpoint.parent, report=tell)
    vae.encoder.e2.load_state_dict(read_weights(checkpoint, "e2"))


def _counted(batches: Iterable[Clips], num_batches: int, report: Report | None) -> Iterator[Clips]:
    for index, batch in enumerate(itertools.islice(batches, num_batches)):
        if report is not None:
            report(Prepared(name="clips for the encoder", num_done=index + 1, num_files=num_batches))
        yield batch


def _train_speech(
    model: Model, portraits: Portraits, readers: Sequence[Reader], recipe: LiteRecipe, out: Path, report: Report | None
) -> None:
    heard = out / "audio" / "audio.pt"
    spoken = [out / f"generator-{number}" / "generator.pt" for number in range(1, len(recipe.generator) + 1)]
    budgets_s = [recipe.audio.budget_s, *(training.budget_s for training in recipe.generator)]
    takes: list[Take] = []
    if not all(map(_is_spent, [heard, *spoken], budgets_s)):
        takes = make_takes(readers, portraits, model.audio, portraits_per_reader=recipe.portraits_per_reader, seed=recipe.seed)
    before_s = recipe.budget_s - sum(budgets_s)
    if not _is_spent(heard, recipe.audio.budget_s):
        tell = _teller("audio encoder", before_s, recipe, report)
        train_audio_encoder(model.audio.encoder, takes, recipe.audio, heard.parent, report=tell)
    model.audio.encoder.load_state_dict(read_weights(heard, "audio"))
    takes = hear(model.audio.encoder, takes)
    before_s += recipe.audio.budget_s
    for number, (training, checkpoint) in enumerate(zip(recipe.generator, spoken, strict=True), 1):
        if not _is_spent(checkpoint, training.budget_s):
            tell = _teller(f"generator {number}/{len(recipe.generator)}", before_s, recipe, report)
            train_generator(model.generator, takes, training, checkpoint.parent, report=tell)
        averaged = read_weights(checkpoint, "ema")
        del averaged["n_averaged"]
        model.generator.load_state_dict({name.removeprefix("module."): weight for name, weight in averaged.items()})
        before_s += training.budget_s


def _is_spent(checkpoint: Path, budget_s: float) -> bool:
    return read_progress(checkpoint).seconds >= budget_s


def _teller(phase: str, before_s: float, recipe: LiteRecipe, report: Report | None) -> Callable[[dict[str, float]], None] | None:
    """What turns a line of a phase's log into a report on the run, the phases before it having taken `before_s`."""
    if report is None:
        return None

    def tell(line: dict[str, float]) -> None:
        losses = {name: value for name, value in line.items() if name not in ("step", "seconds")}
        spent_s = before_s + line["seconds"]
        report(Trained(phase=phase, step=int(line["step"]), losses=losses, spent_s=spent_s, budget_s=recipe.budget_s))

    return tell
