"""`vivavoz personalise`: an avatar that has been trained on its person, as a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from vivavoz.cli.lite_options import check_animator
from vivavoz.errors import ConfigError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "personalise",
        help="train an avatar on its person, for a minute or two",
        description="Train what the decoder keeps of a person on pictures of the portrait that the animator moves: lips, teeth "
        "and eyes then fit this very face. The file is used in the place of a portrait. Called again after a stop, it goes on "
        "where it was.",
    )
    parser.add_argument("portrait", type=Path, metavar="PORTRAIT", help="a picture of the person")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="AVATAR", help="file to write: .safetensors")
    parser.add_argument("--minutes", type=float, default=2.0, help="of training (default: 2)")
    parser.add_argument("--model", default="lite", metavar="NAME", help="a preset, or a folder with weights (default: lite)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="side of the video (default: the preset's)")
    parser.add_argument(
        "--crop", choices=("auto", "none"), default="auto", help="find and frame the face, or take the centre square"
    )
    parser.set_defaults(run=run, resumes=True)


def run(options: argparse.Namespace) -> None:
    """Train; progress goes to stderr, the last line to stdout."""
    check_animator()
    import shutil

    from vivavoz.cli.training_progress import showing_training
    from vivavoz.engine.avatar_file import AVATAR_SUFFIX
    from vivavoz.engine.weights import load
    from vivavoz.train.personal import personal_training, personalise
    from vivavoz.train.run_folder import Trained

    if options.output.suffix != AVATAR_SUFFIX:
        raise ConfigError(f"got {options.output} to write, expected a name that ends in {AVATAR_SUFFIX}")
    training = personal_training(options.minutes)
    avatar = load(options.model).avatar(options.portrait, options.crop, options.size)
    folder = options.output.with_name(f".{options.output.stem}.training")
    with showing_training() as show:

        def report(line: dict[str, float]) -> None:
            show(Trained.from_line("avatar", line, spent_s=line["seconds"], budget_s=training.vae.loop.budget_s))

        personal = personalise(avatar, folder, training, report=report)
    personal.save(options.output)
    shutil.rmtree(folder)
    print(f"{options.output}: trained for {options.minutes:g} minutes; try: vivavoz generate {options.output} SPEECH -o VIDEO")
