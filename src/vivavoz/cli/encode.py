"""`vivavoz encode`: the latents of a corpus, once and for all, to train a generator from."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "encode",
        help="cache a corpus's latents",
        description="Encode every clip with a trained VAE, so that the generator's training needs no pictures. The weights are "
        "copied beside the latents. Called again after a stop, it goes on where it was.",
    )
    parser.add_argument("shards", metavar="SHARDS", help="corpus made by `vivavoz data`: a folder or URL")
    parser.add_argument("--weights", required=True, metavar="DIR", help="weights with the VAE, or a preset that ships with some")
    parser.add_argument("-o", "--output", required=True, metavar="LATENTS", help="folder or URL for the latents")
    parser.add_argument("--device", metavar="DEVICE", help="to encode on (default: cuda if there is one, else cpu)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="shards to work on at a time (default: 1)")
    parser.add_argument("--ray", metavar="ADDRESS", help="work on this Ray cluster; local: on all GPUs of this machine")
    parser.set_defaults(run=run, resumes=True)


def run(options: argparse.Namespace) -> None:
    """Encode; progress goes to stderr, what came of it to stdout."""
    from vivavoz.cli.training_progress import showing_training
    from vivavoz.data.latents.encoding import encode_corpus

    with showing_training() as report:
        manifest = encode_corpus(
            options.shards,
            options.weights,
            options.output,
            device=options.device,
            ray_address=options.ray,
            num_processes=options.processes,
            report=report,
        )
    summary = manifest.summary()
    print(
        f"{options.output}: latents of {summary['clips']} clips, {summary['seconds'] / 3600:.2f} h, "
        f"{summary['bytes'] / 1e6:.0f} MB"
        + (f"; {summary['rejected']} shards left out, see {options.output}/manifest.jsonl" if summary["rejected"] else "")
        + f"; try: vivavoz train generator paper --data {options.output} -o ..."
    )
