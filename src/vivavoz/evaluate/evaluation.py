"""One evaluation from beginning to end: every part for every set of weights, kept as soon as it is done.

Within a part every portrait, pair or clip is kept. What was measured before, of the same weights, material and configuration, is
read instead, so that a run that was stopped gives the report of one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vivavoz.config_json import to_plain
from vivavoz.engine.accounting import describe
from vivavoz.engine.model import Model
from vivavoz.evaluate.background import BackgroundConfig, BackgroundResult, evaluate_background
from vivavoz.evaluate.clips import ClipsConfig, ClipsResult, HeldClips, evaluate_clips
from vivavoz.evaluate.faces import FindLandmarks
from vivavoz.evaluate.kept import Keep, Kept, digest, fingerprint
from vivavoz.evaluate.likeness import Descriptor, Likeness, LikenessConfig, evaluate_likeness
from vivavoz.evaluate.lips import Lips, LipsConfig, evaluate_lips
from vivavoz.evaluate.material import Material
from vivavoz.evaluate.personal_model import PersonalModel
from vivavoz.evaluate.reconstruction import Reconstruction, ReconstructionConfig, evaluate_reconstruction
from vivavoz.evaluate.sheet import likeness_sheet, lips_sheet, moments_sheet, reconstruction_sheet
from vivavoz.evaluate.states import StatesConfig, StatesResult, evaluate_states
from vivavoz.evaluate.steering import SteeringConfig, SteeringResult, evaluate_steering
from vivavoz.evaluate.stillness import StillnessConfig, StillnessResult, evaluate_stillness
from vivavoz.media.image import write_image
from vivavoz.presets import SamplingConfig
from vivavoz.rig.landmarks import face_mesh
from vivavoz.train.perceptual import Perceptual

Sheet = NDArray[np.uint8] | None

_METHOD: Final = 2
"""Raised when anything is measured another way: what is kept of before is then measured again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What is measured."""

    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    clips: ClipsConfig = field(default_factory=ClipsConfig)
    lips: LipsConfig = field(default_factory=LipsConfig)
    stillness: StillnessConfig = field(default_factory=StillnessConfig)
    likeness: LikenessConfig = field(default_factory=LikenessConfig)
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    steering: SteeringConfig = field(default_factory=SteeringConfig)
    states: StatesConfig = field(default_factory=StatesConfig)
    landmarks: bool = True
    """Find landmarks in generated pictures too (needs MediaPipe); without, only what needs none is measured."""


def full_evaluation(*, size: int = 256, label_latents: bool = True, landmarks: bool = True) -> EvaluationConfig:
    """Everything: what `docs/experiments.md` quotes."""
    return EvaluationConfig(
        reconstruction=ReconstructionConfig(size=size, label_latents=label_latents),
        clips=ClipsConfig(size=size),
        lips=LipsConfig(label_latents=label_latents),
        stillness=StillnessConfig(label_latents=label_latents),
        landmarks=landmarks,
    )


def quick_evaluation(*, size: int = 256, label_latents: bool = True, landmarks: bool = True) -> EvaluationConfig:
    """A small part of it, to see where a model stands."""
    return EvaluationConfig(
        reconstruction=ReconstructionConfig(num_portraits=3, size=size, label_latents=label_latents, num_frames=9),
        clips=ClipsConfig(num_clips=2, size=size, num_frames=9),
        lips=LipsConfig(num_pairs=3, num_frames=100, num_ruler_pairs=1, num_samples=1, label_latents=label_latents),
        stillness=StillnessConfig(num_portraits=1, num_latent_portraits=2, speech_s=3, silence_s=4, label_latents=label_latents),
        likeness=LikenessConfig(num_portraits=3, num_frames=49, num_shown=16, num_scored=2),
        background=BackgroundConfig(num_portraits=1, moments_s=(2, 60)),
        steering=SteeringConfig(num_portraits=1, seconds=4, ruler=False),
        states=StatesConfig(num_portraits=1, blocks_after=2),
        landmarks=landmarks,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """Weights that are measured, sampled as the model's preset says."""

    name: str
    model: Model

    def lacks(self, part: str) -> bool:
        """Whether a part has nothing to measure: models without controls have none to steer by, and what the VAE does by itself
        is not different with personal avatars."""
        if isinstance(self.model, PersonalModel) and part in ("reconstruction", "clips"):
            return True
        return part in ("steering", "states") and not self.model.preset.generator.controls


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """All figures of one contender; None where a part was not, or not yet, measured."""

    name: str
    preset: str
    sampling: SamplingConfig
    generator_gflop_per_frame: float
    """Arithmetic of the generator per picture: all steps and branches, and the clean pass."""
    num_parameters: int
    reconstruction: Reconstruction | None = None
    clips: ClipsResult | None = None
    lips: Lips | None = None
    stillness: StillnessResult | None = None
    likeness: Likeness | None = None
    background: BackgroundResult | None = None
    steering: SteeringResult | None = None
    states: StatesResult | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Exam:
    """What all contenders are measured on, and with."""

    config: EvaluationConfig
    material: Material
    perceptual: Perceptual
    descriptor: Descriptor
    clips: HeldClips | None = None


def evaluate(
    contenders: Sequence[Contender],
    exam: Exam,
    folder: Path,
    *,
    progress: Callable[[str], None] = lambda _: None,
    on_part: Callable[[Sequence[Findings]], None] = lambda _: None,
) -> list[Findings]:
    """Measure every contender, part by part; sheets and what is done go to `folder`.

    `on_part` is told all findings whenever there are more. Parts that need landmarks are left out where `config.landmarks` is
    off, and those that need controls where the model has none.

    Raises:
        DataError: MediaPipe is missing and `config.landmarks` asks for it, or no face is found in a video.
        OutputError: the folder cannot be written.
    """
    findings = [
        Findings(
            name=one.name,
            preset=one.model.preset.name,
            sampling=one.model.preset.sampling,
            generator_gflop_per_frame=sum(
                stage.gflop_per_frame for stage in describe(one.model.preset).stages if stage.part == "generator"
            ),
            num_parameters=sum(parameter.numel() for parameter in one.model.parameters()),
        )
        for one in contenders
    ]
    prints = [fingerprint(one.model) for one in contenders]
    material = {
        "method": _METHOD,
        "portraits": [portrait.name for portrait in exam.material.portraits],
        "speeches": [speech.name for speech in exam.material.speeches],
        "pictures": digest(portrait.image for portrait in exam.material.portraits),
        "motion": digest(speech.motion for speech in exam.material.speeches),
        "clips": [] if exam.clips is None else [*exam.clips.keys, digest(clip.frames for clip in exam.clips.clips)],
    }
    with face_mesh() if exam.config.landmarks else nullcontext() as find:
        parts = _parts(exam, find)
        for k, (part, kind, measure) in enumerate(parts):
            for i, contender in enumerate(contenders):
                if contender.lacks(part):
                    continue
                progress(f"{contender.name}: {part}, part {k + 1} of {len(parts)}")
                of: dict[str, Any] = material | {"weights": prints[i]}
                if isinstance(contender.model, PersonalModel):
                    of["personal"] = to_plain(contender.model.personal_training)
                found = _measure_once(part, kind, measure, contender, exam, of, folder, progress)
                findings[i] = replace(findings[i], **{part: found})
                on_part(findings)
    return findings


Measure = Callable[[Model, Callable[[str], None], Keep], tuple[Any, Sheet]]


def _parts(exam: Exam, find: FindLandmarks | None) -> list[tuple[str, type, Measure]]:
    """Name, kind of result and way to measure of every part that this exam has; what costs little comes first."""
    config, material, held = exam.config, exam.material, exam.clips

    def reconstruction(model: Model, tell: Callable[[str], None], keep: Keep) -> tuple[Reconstruction, Sheet]:
        found, samples = evaluate_reconstruction(model.vae, material, config.reconstruction, exam.perceptual, tell, keep)
        return found, reconstruction_sheet(samples) if samples else None

    def lips(model: Model, tell: Callable[[str], None], keep: Keep) -> tuple[Lips, Sheet]:
        found, samples = evaluate_lips(model, material, config.lips, find, tell, keep)
        return found, lips_sheet(samples) if samples else None

    def stillness(model: Model, tell: Callable[[str], None], keep: Keep) -> tuple[StillnessResult, Sheet]:
        return evaluate_stillness(model, material, config.stillness, find, tell, keep), None

    def background(model: Model, tell: Callable[[str], None], keep: Keep) -> tuple[BackgroundResult, Sheet]:
        found, rows = evaluate_background(model, material, config.background, find, tell, keep)
        heads = ("portrait", *(f"{moment} s" for moment in config.background.moments_s))
        return found, moments_sheet(rows, heads) if rows else None

    parts: list[tuple[str, type, Measure]] = [
        ("reconstruction", Reconstruction, reconstruction),
        ("lips", Lips, lips),
        ("stillness", StillnessResult, stillness),
        ("background", BackgroundResult, background),
    ]
    if held is not None:

        def clips(model: Model, tell: Callable[[str], None], keep: Keep) -> tuple[ClipsResult, Sheet]:
            counts = config.clips.reference_counts
            found, samples = evaluate_clips(model.vae, held, exam.perceptual, counts, tell, keep)
            return found, reconstruction_sheet(samples[: config.clips.num_samples])

        parts.insert(1, ("clips", ClipsResult, clips))
    if find is not None:

        def likeness(model: Model, tell: Callable[[str], None], keep: Keep) -> tuple[Likeness, Sheet]:
            tools = (find, exam.descriptor, exam.perceptual)
            found, poses = evaluate_likeness(model, material, config.likeness, *tools, tell, keep)
            return found, likeness_sheet(poses) if poses else None

        def steering(model: Model, tell: Callable[[str], None], keep: Keep) -> tuple[SteeringResult, Sheet]:
            return evaluate_steering(model, material, config.steering, find, tell, keep), None

        def states(model: Model, tell: Callable[[str], None], keep: Keep) -> tuple[StatesResult, Sheet]:
            return evaluate_states(model, material, config.states, find, tell, keep), None

        parts += [("likeness", Likeness, likeness), ("steering", SteeringResult, steering), ("states", StatesResult, states)]
    return parts


def _measure_once(
    part: str,
    kind: type,
    measure: Measure,
    contender: Contender,
    exam: Exam,
    of: dict[str, Any],
    folder: Path,
    progress: Callable[[str], None],
) -> Any:
    """A part's result, read where it was measured before; `of` says of what weights and material."""
    name = f"{contender.name}-{part}"
    whole = Kept(
        folder=folder / "parts",
        of=of
        | {
            "sampling": to_plain(contender.model.preset.sampling),
            "config": to_plain(getattr(exam.config, part)),
            "landmarks": exam.config.landmarks,
            "perceptual": exam.perceptual.name,
            "descriptor": exam.descriptor.name,
        },
    )
    pieces = Kept(folder=folder / "parts" / name, of=whole.of)

    def now() -> Any:
        result, sheet = measure(contender.model, lambda line: progress(f"{contender.name}: {line}"), pieces.once)
        if sheet is not None:
            write_image(folder / f"{name}.png", sheet)
        return result

    result = whole.once(name, kind, now)
    pieces.forget()
    return result
