"""Training the embedded model from a folder of portraits and a folder of speech to weights that can be loaded.

What a run leaves in its folder: `recipe.json`; `split.json`, the names that were trained on and those held back; `corpus/`, the
prepared files; a folder with checkpoint and log for every phase; and at the end `weights/`.
"""

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vivavoz.audio.features import AudioFeatures
from vivavoz.data.animation import MIN_SPEECH_FRAMES, act, clip_labels, plan_clips
from vivavoz.data.corpus import Portraits, Prepared, Reader, prepare_portraits, prepare_speech, split
from vivavoz.data.gestures import drift, soft_limit, wander
from vivavoz.data.motion import COLUMN
from vivavoz.data.performance import perform
from vivavoz.data.rig import Rig
from vivavoz.engine.model import Model
from vivavoz.engine.weights import save_model
from vivavoz.errors import DataError
from vivavoz.timing import FRAME_RATE, SAMPLES_PER_FRAME
from vivavoz.train.audio_training import AudioObjective
from vivavoz.train.checkpoint import load_part
from vivavoz.train.clips import AnimatedClips, ClipConfig, Clips
from vivavoz.train.encoder_training import EncoderObjective, collect_features
from vivavoz.train.generator_training import FrameWishes, GeneratorObjective, Take, hear
from vivavoz.train.loop import LoopConfig, Objective, is_done, train
from vivavoz.train.recipes import LiteRecipe
from vivavoz.train.run_folder import Trained, begin_run
from vivavoz.train.vae_training import VAEObjective
from vivavoz.vae.vae import VAE

B = TypeVar("B")
Report: TypeAlias = Callable[[Prepared | Trained], None]

_LED: Final = {"yaw": 12.0, "pitch": 9.0, "roll": 7.0, "gaze_x": 0.9, "gaze_y": 0.8}
"""Parameters of motion that somebody may be told, and how far they are led to either side."""


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
    begin_run(out, recipe)
    portraits = prepare_portraits(portraits_dir, out / "corpus", report=report)
    readers = prepare_speech(speech_dir, out / "corpus", num_processes=num_processes, report=report)
    portraits, readers = _training_part(portraits, readers, recipe, out)
    model = Model.initialised(recipe.preset, recipe.seed)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        phases = _Phases(recipe, out, report)
        _train_vae(model.vae, portraits, readers, phases)
        _train_speech(model, portraits, readers, phases)
    weights = out / "weights"
    save_model(model.eval(), weights)
    return weights


def make_takes(
    readers: Sequence[Reader], portraits: Portraits, audio: AudioFeatures, *, hours: float, seed: int, led_share: float = 0.0
) -> list[Take]:
    """Portraits perform to recordings, or listen, or idle, for so many hours together; one `Take` for each clip.

    In a share of them, head and eyes are led about (`lead_about`).
    """
    by_name = {reader.name: reader for reader in readers}
    lengths = [(reader.name, len(reader.samples)) for reader in readers]

    @functools.cache
    def rig_of(name: str) -> Rig:
        who = portraits.names.index(name)
        return Rig.from_image(portraits.images[who], portraits.landmarks[who])

    takes = []
    for plan in plan_clips(portraits.names, lengths, hours=hours, seed=seed):
        samples, performance = act(plan, by_name[plan.reader])
        rng = np.random.default_rng([plan.seed, 5])
        if is_led := bool(rng.random() < led_share):
            performance = replace(performance, motion=lead_about(performance.motion, rng))
        rig = rig_of(plan.portrait)
        with torch.no_grad():
            windows = audio.windows(torch.from_numpy(samples)[None])[0]
        wishes = FrameWishes.from_labels(clip_labels(performance, rig))
        takes.append(Take(windows, rig.labels(performance.motion), rig.labels(rig.rest()[None])[0], wishes, is_led))
    return takes


def lead_about(motion: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Motion (F, len(MOTION)) whose head and eyes go elsewhere, faster and further than anybody's would unasked."""
    led = motion.copy()
    for name, highest in _LED.items():
        if rng.random() < 0.5:
            track = wander(rng, len(motion), lowest=-highest, highest=highest, rests=0.2)
        else:
            track = soft_limit(0.6 * highest * drift(rng, len(motion), rng.uniform(0.25, 0.9)), highest)
        led[:, COLUMN[name]] = track
    return led


def _training_part(portraits: Portraits, readers: list[Reader], recipe: LiteRecipe, out: Path) -> tuple[Portraits, list[Reader]]:
    """Hold portraits and readers back, and write down which."""
    seen, unseen = split(portraits.names, recipe.num_held_portraits)
    heard, unheard = split([reader.name for reader in readers], recipe.num_held_readers)
    chosen = {
        "portraits": {"train": [portraits.names[i] for i in seen], "held": [portraits.names[i] for i in unseen]},
        "readers": {"train": [readers[i].name for i in heard], "held": [readers[i].name for i in unheard]},
    }
    (out / "split.json").write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
    if all(len(readers[i].samples) < MIN_SPEECH_FRAMES * SAMPLES_PER_FRAME for i in heard):
        raise DataError(
            f"all {len(heard)} recordings to train on are shorter than {MIN_SPEECH_FRAMES // FRAME_RATE} s; give longer ones"
        )
    names = tuple(portraits.names[i] for i in seen)
    return Portraits(images=portraits.images[seen], landmarks=portraits.landmarks[seen], names=names), [readers[i] for i in heard]


class _Phases:
    """The phases of a run, one after another: each trained, or skipped where it is done."""

    def __init__(self, recipe: LiteRecipe, out: Path, report: Report | None) -> None:
        self.recipe, self.out, self.report = recipe, out, report
        self._before_s = 0.0

    def is_done(self, name: str, loop: LoopConfig) -> bool:
        """Whether nothing of it is left to train."""
        return is_done(self.out / name, loop)

    def train(self, name: str, objective: Objective[B], batches: Callable[[int], Iterable[B]], loop: LoopConfig) -> None:
        """Train it in the folder of its name."""
        train(objective, batches, loop, self.out / name, report=lambda line: self._tell(name, line))

    def finish(self, name: str, loop: LoopConfig, *, part: str, module: nn.Module) -> None:
        """Load what it trained into `module`, which the phase knew as `part`, and go on to the next."""
        load_part(self.out / name, part, module)
        self._before_s += loop.budget_s

    def _tell(self, name: str, line: dict[str, float]) -> None:
        if self.report is not None:
            spent_s = self._before_s + line["seconds"]
            self.report(Trained.from_line(name, line, spent_s=spent_s, budget_s=self.recipe.budget_s))


def _train_vae(vae: VAE, portraits: Portraits, readers: Sequence[Reader], phases: _Phases) -> None:
    recipe = phases.recipe

    @functools.cache  # not before a phase needs them: a run that goes on may be past all of these
    def performances() -> list[NDArray[np.float32]]:
        return [perform(reader.samples, seed=recipe.seed, phonemes=reader.phonemes).motion for reader in readers]

    def batches(config: ClipConfig) -> Callable[[int], Iterable[Clips]]:
        def from_step(first_step: int) -> Iterable[Clips]:
            data = AnimatedClips(portraits.images, portraits.landmarks, config, performances())
            return data.batches(num_workers=recipe.num_render_processes)(first_step)

        return from_step

    for number, phase in enumerate(recipe.vae, 1):
        name, loop = f"vae-{number}", phase.training.loop
        if not phases.is_done(name, loop):
            objective = VAEObjective(vae, phase.training)
            if number > 1:
                load_part(phases.out / f"vae-{number - 1}", "probe", objective.probe)
            phases.train(name, objective, batches(phase.clips), loop)
        phases.finish(name, loop, part="vae", module=vae)
        if number == 1:
            _train_e2(vae, batches(recipe.encoder_clips), phases)


def _train_e2(vae: VAE, batches: Callable[[int], Iterable[Clips]], phases: _Phases) -> None:
    recipe, name = phases.recipe, "encoder"
    if not phases.is_done(name, recipe.encoder.loop):
        counted = _counted(batches(0), recipe.num_encoder_batches, phases.report)
        features, targets = collect_features(vae, counted, recipe.num_encoder_batches)
        objective = EncoderObjective(vae.encoder, features, targets, recipe.encoder)
        phases.train(name, objective, objective.batches, recipe.encoder.loop)
    phases.finish(name, recipe.encoder.loop, part="encoder", module=vae.encoder)


def _counted(batches: Iterable[Clips], num_batches: int, report: Report | None) -> Iterator[Clips]:
    for index, batch in enumerate(itertools.islice(batches, num_batches)):
        if report is not None:
            report(Prepared(name="clips for the encoder", num_done=index + 1, num_files=num_batches))
        yield batch


def _train_speech(model: Model, portraits: Portraits, readers: Sequence[Reader], phases: _Phases) -> None:
    recipe = phases.recipe
    trainings = {f"generator-{number}": training for number, training in enumerate(recipe.generator, 1)}
    takes: list[Take] = []
    if not (
        phases.is_done("audio", recipe.audio.loop)
        and all(phases.is_done(name, training.loop) for name, training in trainings.items())
    ):
        takes = make_takes(readers, portraits, model.audio, hours=recipe.hours, seed=recipe.seed, led_share=recipe.led_share)
    if not phases.is_done("audio", recipe.audio.loop):
        objective = AudioObjective(model.audio.encoder, takes, recipe.audio)
        phases.train("audio", objective, objective.batches, recipe.audio.loop)
    phases.finish("audio", recipe.audio.loop, part="encoder", module=model.audio.encoder)
    takes = hear(model.audio.encoder, takes)
    for name, training in trainings.items():
        if not phases.is_done(name, training.loop):
            speaking = GeneratorObjective(model.generator, takes, training)
            phases.train(name, speaking, speaking.batches, training.loop)
        phases.finish(name, training.loop, part="generator", module=model.generator)
