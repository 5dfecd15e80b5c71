"""`vivavoz train vae` and `vivavoz train generator`: the published method, at any size."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vivavoz.train.perceptual import Perceptual

_STOPPED = (
    "Called again after a stop, it goes on where it was. The weights end in RUN/weights. Under torchrun, --parallel shares it."
)


def add_parsers(presets: argparse._SubParsersAction) -> None:
    """Declare both commands."""
    vae = presets.add_parser(
        "vae", help="a video VAE, from shards", description=f"Train a VAE as published, on clips of `vivavoz data`. {_STOPPED}"
    )
    _add_options(vae, "SHARDS", "corpus made by `vivavoz data`: a folder or URL")
    add_squeezenet(vae)
    vae.set_defaults(run=run_vae, resumes=True)
    generator = presets.add_parser(
        "generator",
        help="a generator, from latents",
        description=f"Train a generator as published, on latents of `vivavoz encode`. {_STOPPED}",
    )
    _add_options(generator, "LATENTS", "latents made by `vivavoz encode`: a folder or URL")
    generator.add_argument(
        "--wav2lip",
        type=Path,
        metavar="FILE",
        help="public Wav2Lip checkpoint: its audio encoder is used as it is, as published (default: one is learnt along)",
    )
    generator.set_defaults(run=run_generator, resumes=True)


def run_vae(options: argparse.Namespace) -> None:
    """Train a VAE; progress goes to stderr, the last line to stdout."""
    from vivavoz.cli.training_progress import showing_training
    from vivavoz.train.distributed import parallel_processes
    from vivavoz.train.paper_recipes import VAE_RECIPES, shortened_video
    from vivavoz.train.paper_training import train_video

    recipe = VAE_RECIPES[options.recipe]()
    if options.steps is not None:
        recipe = shortened_video(recipe, options.steps)
    with parallel_processes(options.parallel) as parallel, showing_training() as report:
        perceptual = chosen_perceptual(options, told=parallel.is_first)
        weights = train_video(
            options.data, options.output, recipe, perceptual, **run_settings(options), parallel=parallel, report=report
        )
        if parallel.is_first:
            print(f"{weights}: a trained VAE; try: vivavoz encode {options.data} --weights {weights} -o ...")


def run_generator(options: argparse.Namespace) -> None:
    """Train a generator; progress goes to stderr, the last line to stdout."""
    from vivavoz.cli.training_progress import showing_training
    from vivavoz.train.distributed import parallel_processes
    from vivavoz.train.paper_recipes import GENERATOR_RECIPES, shortened_latent
    from vivavoz.train.paper_training import train_latents

    recipe = GENERATOR_RECIPES[options.recipe]()
    if options.steps is not None:
        recipe = shortened_latent(recipe, options.steps)
    with parallel_processes(options.parallel) as parallel, showing_training() as report:
        weights = train_latents(
            options.data,
            options.output,
            recipe,
            wav2lip=options.wav2lip,
            **run_settings(options),
            parallel=parallel,
            report=report,
        )
        if parallel.is_first:
            print(f"{weights}: a whole model; try: vivavoz generate --model {weights} ...")


def add_squeezenet(parser: argparse.ArgumentParser) -> None:
    """Declare where the weights of the perceptual loss are."""
    parser.add_argument(
        "--squeezenet",
        nargs=2,
        type=Path,
        metavar=("BACKBONE", "HEADS"),
        help="weights (.h5, .pth) of the perceptual loss, where the lpips package is not installed",
    )


def chosen_perceptual(options: argparse.Namespace, *, told: bool = True) -> Perceptual:
    """The perceptual loss that is at hand; says on stderr which."""
    import sys

    import torch

    from vivavoz.train.perceptual import choose_perceptual

    device = "cuda" if torch.cuda.is_available() else "cpu"
    perceptual = choose_perceptual(tuple(options.squeezenet) if options.squeezenet else None, device)
    if told:
        print(f"vivavoz: the perceptual loss is {perceptual.description}", file=sys.stderr)
    return perceptual


def _add_options(parser: argparse.ArgumentParser, data: str, what: str) -> None:
    parser.add_argument("recipe", choices=("paper", "tiny"), help="paper: the published size; tiny: seconds, for a first look")
    add_run_options(parser, data, what)


def add_run_options(parser: argparse.ArgumentParser, data: str, what: str) -> None:
    """Declare the options of a run on a corpus: `data` names the option's value, `what` says what that is."""
    parser.add_argument("--data", required=True, metavar=data, help=what)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="RUN", help="folder of the run")
    parser.add_argument("--steps", type=int, metavar="N", help="at most so many steps in each phase (default: the recipe's)")
    parser.add_argument("--parallel", choices=("none", "ddp", "fsdp"), default="none", help="how processes of torchrun share it")
    parser.add_argument(
        "--accumulate",
        type=int,
        default=1,
        metavar="N",
        help="batches that a process takes per step, for less memory (default: 1)",
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that read data (default: none of their own)"
    )


def run_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Those options that a run takes as they are."""
    return {"accumulate_steps": options.accumulate, "num_workers": options.workers}
