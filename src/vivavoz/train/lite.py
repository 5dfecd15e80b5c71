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
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from vivavoz.audio.features import AudioFeatures
from vivavoz.data.animation import MIN_SPEECH_FRAMES, act, clip_labels, plan_clips
from vivavoz.data.corpus import Portraits, Prepared, Reader, check_folder, prepare_portraits, prepare_speech, split
from vivavoz.data.gestures import drift, soft_limit, wander
from vivavoz.data.performance import perform
from vivavoz.engine.model import Model
from vivavoz.engine.weights import save_model
from vivavoz.errors import DataError
from vivavoz.rig.motion import COLUMN
from vivavoz.rig.rig import Rig
from vivavoz.timing import FRAME_RATE, SAMPLES_PER_FRAME
from vivavoz.train.audio_training import AudioObjective, make_readings
from vivavoz.train.clips import AnimatedClips, ClipConfig, Clips
from vivavoz.train.encoder_training import EncoderObjective, collect_samples
from vivavoz.train.face_training import AnimatedFaces, FaceMapObjective
from vivavoz.train.filmed_clips import FilmedClips, FilmedWindows, MixedClips
from vivavoz.train.generator_training import FrameWishes, GeneratorObjective, Take, hear
from vivavoz.train.perceptual import Perceptual
from vivavoz.train.phases import Phases
from vivavoz.train.recipes import LiteRecipe, basis_labels
from vivavoz.train.run_folder import Trained, begin_run
from vivavoz.train.vae_training import VAEObjective
from vivavoz.vae.vae import VAE

Report: TypeAlias = Callable[[Prepared | Trained], None]

_LED: Final = {"yaw": 12.0, "pitch": 9.0, "roll": 7.0, "gaze_x": 0.9, "gaze_y": 0.8}
"""Parameters of motion that somebody may be told, and how far they are led to either side."""


def train_lite(
    portraits_dir: Path,
    speech_dir: Path,
    out: Path,
    recipe: LiteRecipe,
    perceptual: Perceptual | None = None,
    *,
    filmed: str | None = None,
    num_processes: int = 1,
    report: Report | None = None,
) -> Path:
    """Train a model by `recipe` and save it as bfloat16; gives the folder with its weights, `out/weights`.

    A run that was stopped goes on where it was when called again: phases whose budget is spent are skipped.

    Args:
        portraits_dir: pictures of faces, one person each.
        speech_dir: recordings of English speech.
        out: the run's folder.
        recipe: phases and budgets.
        perceptual: a term of the VAE's loss; see `choose_perceptual`. None: there is none.
        filmed: a corpus of filmed people, as `vivavoz data prepare` makes it, that the VAE learns from besides: a path or URL.
        num_processes: how many recordings to prepare at a time.
        report: told about every prepared file and, every few steps, about the training.

    Raises:
        DataError: a folder that is missing or holds nothing that can be used, MediaPipe or pocketsphinx missing, or `out` holds
            a run of another recipe or a damaged checkpoint.
        OutputError: `out` cannot be written.
    """
    check_folder(portraits_dir, "pictures")
    check_folder(speech_dir, "recordings")
    windows = [None if filmed is None or phase.filmed is None else FilmedWindows(filmed, phase.filmed) for phase in recipe.vae]
    begin_run(out, recipe)
    portraits = prepare_portraits(portraits_dir, out / "corpus", report=report)
    readers = prepare_speech(speech_dir, out / "corpus", num_processes=num_processes, report=report)
    portraits, readers = training_part(
        portraits, readers, out, num_held_portraits=recipe.num_held_portraits, num_held_readers=recipe.num_held_readers
    )
    model = Model.initialised(recipe.preset, recipe.seed)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        phases = Phases(out, recipe.budget_s, report)
        _train_vae(model.vae, portraits, readers, windows, recipe, phases, perceptual, report)
        _train_speech(model, portraits, readers, recipe, phases)
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
        return portraits.rig(who)

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


def training_part(
    portraits: Portraits, readers: list[Reader], out: Path, *, num_held_portraits: int, num_held_readers: int
) -> tuple[Portraits, list[Reader]]:
    """Hold portraits and readers back for evaluation, write down which in `out/split.json`, and give the rest.

    Raises:
        DataError: all recordings that are left are too short to speak.
    """
    seen, unseen = split(portraits.names, num_held_portraits)
    heard, unheard = split([reader.name for reader in readers], num_held_readers)
    chosen = {
        "portraits": {"train": [portraits.names[i] for i in seen], "held": [portraits.names[i] for i in unseen]},
        "readers": {"train": [readers[i].name for i in heard], "held": [readers[i].name for i in unheard]},
    }
    (out / "split.json").write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
    if all(len(readers[i].samples) < MIN_SPEECH_FRAMES * SAMPLES_PER_FRAME for i in heard):
        raise DataError(
            f"all {len(heard)} recordings to train on are shorter than {MIN_SPEECH_FRAMES // FRAME_RATE} s; give longer ones"
        )
    return portraits.chosen(seen), [readers[i] for i in heard]


def _train_vae(
    vae: VAE,
    portraits: Portraits,
    readers: Sequence[Reader],
    filmed: Sequence[FilmedWindows | None],
    recipe: LiteRecipe,
    phases: Phases,
    perceptual: Perceptual | None,
    report: Report | None,
) -> None:

    @functools.cache  # not before a phase needs them: a run that goes on may be past all of these
    def performances() -> list[NDArray[np.float32]]:
        return [perform(reader.samples, seed=recipe.seed, phonemes=reader.phonemes).motion for reader in readers]

    def animated(config: ClipConfig) -> Callable[[int], Iterable[Clips]]:
        def from_step(first_step: int) -> Iterable[Clips]:
            data = AnimatedClips(portraits, config, performances())
            return data.batches(num_workers=recipe.num_render_processes)(first_step)

        return from_step

    def mixed(config: ClipConfig, windows: FilmedWindows) -> Callable[[int], Iterable[Clips | FilmedClips]]:
        def from_step(first_step: int) -> Iterable[Clips | FilmedClips]:
            data = MixedClips(AnimatedClips(portraits, config, performances()), windows)
            return data.batches(num_workers=recipe.num_render_processes)(first_step)

        return from_step

    if vae.encoder.face_map is not None:
        loop = recipe.face.loop
        if not phases.is_done("face-map", loop):
            faces = AnimatedFaces(portraits, recipe.face, performances())
            objective = FaceMapObjective(vae.encoder.face_map, recipe.face)
            phases.train("face-map", objective, faces.batches(num_workers=recipe.num_render_processes), loop)
        phases.finish("face-map", loop, part="face_map", module=vae.encoder.face_map)
    for number, (phase, windows) in enumerate(zip(recipe.vae, filmed, strict=True), 1):
        name, loop = f"vae-{number}", phase.training.loop
        if not phases.is_done(name, loop):
            batches = animated(phase.clips) if windows is None else mixed(phase.clips, windows)
            phases.train(name, VAEObjective(vae, phase.training, perceptual), batches, loop)
        phases.finish(name, loop, part="vae", module=vae)
        if number == 1:
            _train_e2(vae, animated(recipe.encoder_clips), recipe, phases, report)
    for label, gain in recipe.basis_gains.items():
        assert vae.bases is not None
        vae.bases.amplify(basis_labels(recipe.preset).index(label), gain)


def _train_e2(
    vae: VAE, batches: Callable[[int], Iterable[Clips]], recipe: LiteRecipe, phases: Phases, report: Report | None
) -> None:
    name = "encoder"
    if not phases.is_done(name, recipe.encoder.loop):
        counted = _counted(batches(0), recipe.num_encoder_batches, report)
        samples = collect_samples(vae, counted, recipe.num_encoder_batches)
        objective = EncoderObjective(vae.encoder, samples, recipe.encoder)
        phases.train(name, objective, objective.batches, recipe.encoder.loop)
    phases.finish(name, recipe.encoder.loop, part="encoder", module=vae.encoder)


def _counted(batches: Iterable[Clips], num_batches: int, report: Report | None) -> Iterator[Clips]:
    for index, batch in enumerate(itertools.islice(batches, num_batches)):
        if report is not None:
            report(Prepared(name="clips for the encoder", num_done=index + 1, num_files=num_batches))
        yield batch


def _train_speech(model: Model, portraits: Portraits, readers: Sequence[Reader], recipe: LiteRecipe, phases: Phases) -> None:
    if not phases.is_done("audio", recipe.audio.loop):
        readings = make_readings(readers, portraits.rig(0), model.audio, recipe.audio)
        objective = AudioObjective(model.audio.encoder, readings, recipe.audio)
        phases.train("audio", objective, objective.batches, recipe.audio.loop)
    phases.finish("audio", recipe.audio.loop, part="encoder", module=model.audio.encoder)
    trainings = {f"generator-{number}": training for number, training in enumerate(recipe.generator, 1)}
    takes: list[Take] = []
    if not all(phases.is_done(name, training.loop) for name, training in trainings.items()):
        takes = make_takes(readers, portraits, model.audio, hours=recipe.hours, seed=recipe.seed, led_share=recipe.led_share)
        takes = hear(model.audio.encoder, takes)
    for name, training in trainings.items():
        if not phases.is_done(name, training.loop):
            speaking = GeneratorObjective(model.generator, takes, training)
            phases.train(name, speaking, speaking.batches, training.loop)
        phases.finish(name, training.loop, part="generator", module=model.generator)
