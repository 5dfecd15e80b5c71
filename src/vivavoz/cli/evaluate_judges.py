"""`vivavoz evaluate train-sync|train-capp`: train the judges that have no public weights, on any corpus of shards.

CAPP needs no pictures: recordings alone do, to which the animator moves heads.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from vivavoz.cli.evaluate_videos import tell
from vivavoz.errors import ConfigError

if TYPE_CHECKING:
    from vivavoz.evaluate.videos.capp import HeadClip

_KINDS = {
    "train-sync": "train vivavoz sync: which sound belongs to which lips",
    "train-capp": "train CAPP: which sound belongs to which movement of the head",
}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare both commands."""
    for name, text in _KINDS.items():
        parser = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}. People, or clips of one person, are held back and tell how good it is.",
        )
        of_heads = name == "train-capp"
        parser.add_argument("datasets", nargs="*" if of_heads else "+", metavar="SHARDS", help="corpora that vivavoz data made")
        parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the weights, .safetensors")
        parser.add_argument("--minutes", type=float, default=15.0, help="of training (default: 15)")
        parser.add_argument("--steps", type=int, default=20_000, metavar="N", help="of training, at most (default: 20000)")
        clips = 40 if of_heads else 16
        parser.add_argument("--batch", type=int, default=clips, metavar="N", help=f"clips of a step (default: {clips})")
        parser.add_argument("--seed", type=int, default=0, help="of all chance (default: 0)")
        if of_heads:
            parser.add_argument(
                "--speech", type=Path, metavar="FOLDER", help="recordings that the animator moves heads to; no pictures are drawn"
            )
            parser.add_argument("--performances", type=int, default=2, metavar="N", help="of a recording at each of 5 speeds")
            parser.add_argument("--cache", type=Path, metavar="DIR", help="prepared speech (default: beside OUTPUT, .prepared)")
        parser.set_defaults(run=run, kind=name)


def run(options: argparse.Namespace) -> None:
    """Train, measure on what was held back, and write; progress goes to stderr, the figures to stdout."""
    if options.output.suffix != ".safetensors":
        raise ConfigError(f"got the output {options.output}, expected a file of weights: give a name that ends in .safetensors")
    (_train_sync if options.kind == "train-sync" else _train_capp)(options)


def _train_sync(options: argparse.Namespace) -> None:
    from vivavoz.evaluate.videos.contrast import ContrastConfig, read_material, split_material, train_sync
    from vivavoz.evaluate.videos.judge_trial import describe, try_sync

    config = ContrastConfig(minutes=options.minutes, max_steps=options.steps, clips_per_batch=options.batch, seed=options.seed)
    train, held = split_material(read_material(options.datasets, config.max_clips, tell), config)
    scorer = train_sync(train, config, tell)
    scorer.save(options.output)
    print(f"{options.output}: {describe(try_sync(scorer, held))}")


def _train_capp(options: argparse.Namespace) -> None:
    from vivavoz.evaluate.videos.contrast import ContrastConfig, read_material, split_material, train_capp
    from vivavoz.evaluate.videos.judge_trial import describe, try_capp

    if not options.datasets and options.speech is None:
        raise ConfigError("got neither corpora nor recordings, expected one of them: give SHARDS, or --speech FOLDER")
    config = ContrastConfig(minutes=options.minutes, max_steps=options.steps, clips_per_batch=options.batch, seed=options.seed)
    train: list[HeadClip] = []
    held: dict[str, list[HeadClip]] = {}
    if options.datasets:
        seen, unseen = split_material(read_material(options.datasets, config.max_clips, tell), config)
        train += seen
        held["filmed or drawn"] = list(unseen)
    if options.speech is not None:
        performed, unheard = _performed(options)
        train += performed
        held["performed"] = unheard
    encoders = train_capp(train, config, tell)
    encoders.save(options.output)
    for name, clips in held.items():
        print(f"{options.output}, {name}: {describe(try_capp(encoders, clips))}")


def _performed(options: argparse.Namespace) -> tuple[list[HeadClip], list[HeadClip]]:
    """Performances of the recordings that training of lite hears, and one each of those it holds back."""
    from vivavoz.data.corpus import prepare_speech, split
    from vivavoz.evaluate.videos.performed_heads import perform_heads
    from vivavoz.train.recipes import LiteRecipe

    readers = prepare_speech(options.speech, options.cache or options.output.parent / ".prepared")
    heard, unheard = split([reader.name for reader in readers], LiteRecipe.num_held_readers)
    return (
        perform_heads([readers[i] for i in heard], num_each=options.performances, seed=options.seed, progress=tell),
        perform_heads([readers[i] for i in unheard], num_each=1, seed=options.seed, speeds=(Fraction(1),), progress=tell),
    )
