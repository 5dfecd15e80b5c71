"""`vivavoz train`: weights from portraits and speech, or from corpora."""

from __future__ import annotations

import argparse
from pathlib import Path

from vivavoz.cli import train_paper
from vivavoz.errors import ConfigError


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
    lite.add_argument("--portraits", required=True, type=Path, metavar="DIR", help="pictures of faces, one person each")
    lite.add_argument("--speech", required=True, type=Path, metavar="DIR", help="recordings of English speech")
    lite.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="folder of the run")
    lite.add_argument("--minutes", type=float, default=120.0, help="of training, preparation not counted (default: 120)")
    lite.add_argument("--threads", type=int, metavar="N", help="threads to compute with (default: one per core)")
    train_paper.add_squeezenet(lite)
    lite.set_defaults(run=run)
    train_paper.add_parsers(presets)


def run(options: argparse.Namespace) -> None:
    """Train; progress goes to stderr, the last line to stdout."""
    if options.threads is not None and options.threads < 1:
        raise ConfigError(f"got {options.threads} threads, expected at least 1: leave --threads out for one per core")
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise ConfigError("got no SciPy, expected it for the animator: pip install 'vivavoz[train,data]'") from error
    import torch

    from vivavoz.cli.training_progress import resumable, showing_training
    from vivavoz.train.lite import train_lite
    from vivavoz.train.recipes import lite_recipe

    recipe = lite_recipe(options.minutes)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    perceptual = train_paper.chosen_perceptual(options)
    with resumable(), showing_training() as report:
        weights = train_lite(
            options.portraits,
            options.speech,
            options.output,
            recipe,
            perceptual,
            num_processes=torch.get_num_threads(),
            report=report,
        )
    print(f"{weights}: trained for {recipe.budget_s / 60:g} minutes; try: vivavoz generate --model {weights} ...")
