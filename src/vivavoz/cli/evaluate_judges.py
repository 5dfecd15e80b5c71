"""`vivavoz evaluate train-sync|train-capp`: train the judges that have no public weights, on any corpus of shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from vivavoz.cli.evaluate_videos import tell
from vivavoz.errors import ConfigError

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
        parser.add_argument("datasets", nargs="+", metavar="SHARDS", help="corpora that vivavoz data made")
        parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the weights, .safetensors")
        parser.add_argument("--minutes", type=float, default=15.0, help="of training (default: 15)")
        parser.add_argument("--batch", type=int, default=16, metavar="N", help="clips of a step (default: 16)")
        parser.add_argument("--seed", type=int, default=0, help="of all chance (default: 0)")
        parser.set_defaults(run=run, kind=name)


def run(options: argparse.Namespace) -> None:
    """Train, measure on what was held back, and write; progress goes to stderr, the figures to stdout."""
    from vivavoz.evaluate.videos.contrast import ContrastConfig, read_material, split_material, train_capp, train_sync
    from vivavoz.evaluate.videos.judge_trial import describe, try_capp, try_sync

    if options.output.suffix != ".safetensors":
        raise ConfigError(f"got the output {options.output}, expected a file of weights: give a name that ends in .safetensors")
    config = ContrastConfig(minutes=options.minutes, clips_per_batch=options.batch, seed=options.seed)
    material = read_material(options.datasets, config.max_clips, tell)
    train, held = split_material(material, config)
    if options.kind == "train-sync":
        scorer = train_sync(train, config, tell)
        trial = try_sync(scorer, held)
        scorer.save(options.output)
    else:
        encoders = train_capp(train, config, tell)
        trial = try_capp(encoders, held)
        encoders.save(options.output)
    print(f"{options.output}: {describe(trial)}")
