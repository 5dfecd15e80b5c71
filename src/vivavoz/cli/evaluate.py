"""`vivavoz evaluate lite`: measure a model on portraits and recordings it has not seen, and write a report."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vivavoz.evaluate.evaluation import Contender


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "lite",
        aliases=["paper", "tiny"],  # `model` is the name that was given
        help="measure a preset on portraits and recordings it has not seen",
        description="Measure how well a model rebuilds pictures, speaks, rests, keeps the person and the background, and does as "
        "it is told. Of the folders it was trained from, only what training held back is used. Writes report.json, report.md and "
        "sheets of pictures, part by part; called again after a stop, it goes on where it was.",
    )
    parser.add_argument("--weights", metavar="FOLDER", help="weights of the preset (default: those shipped)")
    parser.add_argument("--portraits", required=True, type=Path, metavar="FOLDER", help="pictures of faces, as for training")
    parser.add_argument("--speech", required=True, type=Path, metavar="FOLDER", help="recordings, as for training")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="where the report goes")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="prepared portraits and speech (default: OUTPUT/corpus)")
    parser.add_argument("--all", action="store_true", help="measure on all of the folders, not only on what training holds back")
    parser.add_argument("--quick", action="store_true", help="a small part of everything")
    parser.add_argument("--clips", metavar="SHARDS", help="also rebuild real clips: held-out ones, made by vivavoz data prepare")
    others = parser.add_argument_group("beside it", "measured the same way, in the same tables")
    others.add_argument("--against", action="append", default=[], metavar="FOLDER", help="other weights; may be given often")
    others.add_argument(
        "--personalise", type=float, metavar="MINUTES", help="the same, its avatars each trained on their person before (slow)"
    )
    others.add_argument("--steps", type=int, metavar="N", help="sample in N steps, and stand beside the preset's own way")
    others.add_argument("--guidance-audio", type=float, metavar="SCALE", help="likewise; 1: none")
    others.add_argument("--guidance-reference", type=float, metavar="SCALE", help="likewise; 1: none")
    tools = parser.add_argument_group("what it measures with")
    tools.add_argument(
        "--squeezenet",
        nargs=2,
        type=Path,
        metavar=("BACKBONE", "HEADS"),
        help="SqueezeNet (Keras, .h5) and LPIPS's heads for it (.pth): a perceptual distance where LPIPS is not installed, and "
        "likeness of faces",
    )
    tools.add_argument("--face-recognition", type=Path, metavar="FILE", help="a face-recognition network as ONNX, for likeness")
    tools.add_argument("--no-landmarks", action="store_true", help="leave out what needs faces found in pictures (no MediaPipe)")
    tools.add_argument("--no-labels", action="store_true", help="for models whose latents were not trained on labels")
    parser.set_defaults(run=run, resumes=True)


def run(options: argparse.Namespace) -> None:
    """Measure and write; progress goes to stderr, the tables to stdout."""
    from vivavoz.evaluate.clips import read_clips
    from vivavoz.evaluate.evaluation import Exam, evaluate, full_evaluation, quick_evaluation
    from vivavoz.evaluate.likeness import choose_descriptor
    from vivavoz.evaluate.loading import load_material
    from vivavoz.evaluate.report import write_report
    from vivavoz.evaluate.tables import to_markdown
    from vivavoz.media.output import writing
    from vivavoz.train.perceptual import choose_perceptual

    with writing(options.output):  # before anything that takes long
        options.output.mkdir(parents=True, exist_ok=True)
    contenders = _contenders(options)
    make = quick_evaluation if options.quick else full_evaluation
    config = make(
        size=contenders[0].model.preset.working_size,
        label_latents=not options.no_labels,
        landmarks=not options.no_landmarks,
    )
    squeezenet = tuple(options.squeezenet) if options.squeezenet else None
    exam = Exam(
        config=config,
        perceptual=choose_perceptual(squeezenet),
        descriptor=choose_descriptor(squeezenet, options.face_recognition),
        clips=read_clips(options.clips, config.clips) if options.clips else None,
        material=load_material(
            options.portraits,
            options.speech,
            options.cache or options.output / "corpus",
            num_portraits=max(config.reconstruction.num_portraits, config.lips.num_pairs),
            num_speeches=config.lips.num_pairs,
            held_only=not options.all,
            progress=_tell,
        ),
    )
    findings = evaluate(
        contenders,
        exam,
        options.output,
        progress=_tell,
        on_part=lambda found: write_report(found, exam, options.output),
    )
    print(to_markdown(findings, exam), end="")


def _contenders(options: argparse.Namespace) -> list[Contender]:
    """The model, the same sampled as its preset says where options ask for something else, and the others, each with a name."""
    from vivavoz.engine.weights import load
    from vivavoz.errors import ConfigError
    from vivavoz.evaluate.evaluation import Contender
    from vivavoz.evaluate.personal_model import PersonalModel
    from vivavoz.evaluate.speaking import with_sampling
    from vivavoz.train.personal import personal_training

    model = load(options.weights or options.model)
    if options.weights and model.preset.name != options.model:
        raise ConfigError(
            f"{options.weights} holds weights of the {model.preset.name!r} preset, "
            f"expected {options.model!r}: name the right preset"
        )
    name = Path(options.weights).resolve().name if options.weights else options.model
    wishes = {"num_steps": options.steps, "guidance_audio": options.guidance_audio}
    wishes["guidance_reference"] = options.guidance_reference
    given = {key: value for key, value in wishes.items() if value is not None}
    named = [(name, model)]
    if given:
        sampling = replace(model.preset.sampling, **given)
        named.insert(0, (f"{name}-{sampling.num_steps}-steps", with_sampling(model, sampling)))
    if options.personalise is not None:
        named.append(
            (f"{name}-personal", PersonalModel(model, options.output / "avatars", personal_training(options.personalise)))
        )
    named += [(Path(folder).resolve().name, load(folder)) for folder in options.against]
    contenders: list[Contender] = []
    for wanted, weights in named:
        taken = {other.name for other in contenders}
        free = next(one for one in chain([wanted], (f"{wanted}-{number}" for number in count(2))) if one not in taken)
        contenders.append(Contender(name=free, model=weights))
    return contenders


def _tell(line: str) -> None:
    print(f"vivavoz: {line}", file=sys.stderr, flush=True)
