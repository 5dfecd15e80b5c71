"""`vivavoz train`: weights from portraits and speech, or from corpora."""

from __future__ import annotations

import argparse

from vivavoz.cli import train_landmarks, train_paper, train_student
from vivavoz.cli.lite_options import add_lite_options, use_lite_options


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser("train", help="train a model", description=__doc__)
    presets = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    lite = presets.add_parser(
        "lite",
        help="the embedded model, on a CPU",
        description="Train the embedded model: the portraits are animated to the speech, and the model learns from that. "
        "Called again after a stop, it goes on where it was. The weights end in OUT/weights.",
    )
    add_lite_options(lite, minutes=120)
    lite.add_argument("--clips", metavar="SHARDS", help="filmed people to learn from besides: a corpus of `vivavoz data prepare`")
    train_paper.add_squeezenet(lite)
    lite.set_defaults(run=run, resumes=True)
    train_paper.add_parsers(presets)
    train_student.add_parser(presets)
    train_landmarks.add_parser(presets)


def run(options: argparse.Namespace) -> None:
    """Train; progress goes to stderr, the last line to stdout."""
    num_threads = use_lite_options(options)
    from vivavoz.cli.training_progress import showing_training
    from vivavoz.train.lite import train_lite
    from vivavoz.train.recipes import lite_recipe

    recipe = lite_recipe(options.minutes)
    perceptual = train_paper.chosen_perceptual(options)
    with showing_training() as report:
        weights = train_lite(
            options.portraits,
            options.speech,
            options.output,
            recipe,
            perceptual,
            filmed=options.clips,
            num_processes=num_threads,
            report=report,
        )
    print(f"{weights}: trained for {recipe.budget_s / 60:g} minutes; try: vivavoz generate --model {weights} ...")
