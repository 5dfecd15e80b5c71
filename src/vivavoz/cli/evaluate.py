"""`vivavoz evaluate lite`: measure a model on portraits and recordings it has not seen, and write a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "lite",
        aliases=["paper", "tiny"],  # `model` is the name that was given
        help="measure a preset on portraits and recordings it has not seen",
        description="Measure how well a model rebuilds pictures and speaks. Of the folders it was trained from, only what "
        "training held back is used. Writes report.json, report.md, reconstruction.png and lips.png.",
    )
    parser.add_argument("--weights", metavar="FOLDER", help="weights of the preset (default: those shipped)")
    parser.add_argument("--portraits", required=True, type=Path, metavar="FOLDER", help="pictures of faces, as for training")
    parser.add_argument("--speech", required=True, type=Path, metavar="FOLDER", help="recordings, as for training")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="where the report goes")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="prepared portraits and speech (default: OUTPUT/corpus)")
    parser.add_argument("--all", action="store_true", help="measure on all of the folders, not only on what training holds back")
    parser.add_argument("--quick", action="store_true", help="a small part of everything")
    parser.add_argument("--no-video-lips", action="store_true", help="do not measure lips in generated pictures (no MediaPipe)")
    parser.add_argument("--no-labels", action="store_true", help="for models whose latents were not trained on labels")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure and write; progress goes to stderr, the tables to stdout."""
    from vivavoz.engine.weights import load
    from vivavoz.errors import ConfigError
    from vivavoz.evaluate.loading import load_material
    from vivavoz.evaluate.report import evaluate, full_evaluation, quick_evaluation, to_markdown, write_report

    model = load(options.weights or options.model)
    if options.weights and model.preset.name != options.model:
        raise ConfigError(
            f"{options.weights} holds weights of the {model.preset.name!r} preset, "
            f"expected {options.model!r}: name the right preset"
        )
    make = quick_evaluation if options.quick else full_evaluation
    config = make(size=model.preset.working_size, label_latents=not options.no_labels, video_lips=not options.no_video_lips)
    material = load_material(
        options.portraits,
        options.speech,
        options.cache or options.output / "corpus",
        num_portraits=max(config.reconstruction.num_portraits, config.lips.num_pairs),
        num_speeches=config.lips.num_pairs,
        held_only=not options.all,
        progress=_tell,
    )
    evaluation = evaluate(model, material, config, _tell)
    write_report(evaluation, options.output)
    print(to_markdown(evaluation), end="")


def _tell(line: str) -> None:
    print(f"vivavoz: {line}", file=sys.stderr, flush=True)
