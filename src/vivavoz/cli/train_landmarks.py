"""`vivavoz train landmarks`: the network that finds landmarks in portraits."""

from __future__ import annotations

import argparse

from vivavoz.cli.lite_options import add_lite_options, use_lite_options


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "landmarks",
        help="the finder of landmarks that poses portraits",
        description="Train the network that finds a portrait's landmarks, on animated portraits. Called again after a stop, it "
        "goes on where it was. The weights end in OUT/landmark_finder.safetensors.",
    )
    add_lite_options(parser, minutes=45, speech=False)
    parser.set_defaults(run=run, resumes=True)


def run(options: argparse.Namespace) -> None:
    """Train; progress goes to stderr, the last line to stdout."""
    use_lite_options(options)
    from vivavoz.cli.training_progress import showing_training
    from vivavoz.train.landmark_training import landmark_training, train_landmarks

    settings = landmark_training(options.minutes)
    with showing_training() as report:
        path = train_landmarks(options.portraits, options.output, settings, report=report)
    print(f"{path}: trained for {options.minutes:g} minutes; the one that ships is vivavoz/rig/landmark_finder.safetensors")
