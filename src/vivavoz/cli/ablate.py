"""`vivavoz ablate`: what references and CR-VA are worth, in small: the paper's table 2."""

from __future__ import annotations

import argparse
from pathlib import Path

from vivavoz.cli.train_paper import add_squeezenet, chosen_perceptual


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "ablate",
        help="train the VAE without its parts and compare",
        description="Train small VAEs of the paper's architecture with and without references and CR-VA, all for the same number "
        "of steps, and measure them on people held back. Writes ablation.json, ablation.md and ablation.png. Called again after "
        "a stop, it goes on where it was.",
    )
    parser.add_argument("shards", metavar="SHARDS", help="corpus made by `vivavoz data` to learn from: a folder or URL")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--held", nargs="+", metavar="SHARDS", help="corpora whose validation and test clips to measure on (default: SHARDS)"
    )
    parser.add_argument("--steps", type=int, default=2000, metavar="N", help="of every training (default: 2000)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings of each kind (default: 1)")
    parser.add_argument("--windows", type=int, default=64, metavar="N", help="clips to measure on, of each corpus (default: 64)")
    add_squeezenet(parser)
    parser.set_defaults(run=run, resumes=True)


def run(options: argparse.Namespace) -> None:
    """Train and measure; progress goes to stderr, the table to stdout."""
    from vivavoz.cli.training_progress import showing_training
    from vivavoz.errors import ConfigError
    from vivavoz.evaluate.ablation_report import to_markdown, write_ablation
    from vivavoz.evaluate.clips import ClipsConfig, read_clips
    from vivavoz.train.ablation import ablation_recipe, run_ablation

    recipe = ablation_recipe(options.steps, range(options.seeds))
    perceptual = chosen_perceptual(options)
    window = ClipsConfig(num_clips=options.windows, num_frames=recipe.num_frames, size=recipe.size_px)
    held = [read_clips(shards, window, held_only=True) for shards in options.held or [options.shards]]
    if len({one.corpus for one in held}) < len(held):
        raise ConfigError(f"got corpora of one name ({', '.join(one.corpus for one in held)}), expected a name for each row")
    with showing_training() as report:
        results = run_ablation(options.shards, held, options.output, recipe, perceptual, report=report)
    rows = write_ablation(results, recipe, perceptual.name, options.output)
    print(to_markdown(rows, perceptual.name), end="")
