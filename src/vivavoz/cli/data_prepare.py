"""`vivavoz data prepare`: clips from real video."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

_LAYOUTS = ("voxceleb2", "hdtf", "grid", "folder")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "prepare",
        help="cut real video into clips",
        description="Cut videos of people who speak into clips for training: shots, one steady crop of head and shoulders per "
        "clip, at most 10 seconds, 25 pictures a second. What cannot be used is left out, and the manifest says why. Called "
        "again after a stop, it goes on where it was.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of videos: VoxCeleb2, HDTF, GRID, or any other")
    parser.add_argument("-o", "--output", required=True, metavar="SHARDS", help="folder or URL of the corpus")
    parser.add_argument("--layout", choices=_LAYOUTS, help="of the folder (default: told by its content)")
    parser.add_argument("--licence", metavar="TEXT", help="of the videos (default: the known corpus's, else 'unknown')")
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="put all clips there (default: 90, 5 and 5 %% of the people, by who they are)",
    )
    parser.add_argument("--english", action="store_true", help="the speech is English: label its phonemes too")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="videos to work on at a time (default: 1)")
    parser.add_argument("--ray", metavar="ADDRESS", help="work on this Ray cluster; its machines must see SOURCE and SHARDS")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another bound for a filter, such as min_crop_px=400; may be given often (see docs/architecture.md)",
    )
    parser.set_defaults(run=run, resumes=True)


def run(options: argparse.Namespace) -> None:
    """Prepare; progress goes to stderr, what came of it to stdout."""
    from functools import partial

    from vivavoz.cli.training_progress import showing_training
    from vivavoz.data.video.limits import Limits
    from vivavoz.data.video.prepare import describe, prepare, real_senses
    from vivavoz.data.video.sources import find_sources

    limits = Limits(**_bounds(options.limit, {field.name for field in fields(Limits)}))
    found = find_sources(options.source, options.layout, options.licence)
    if options.split:
        found = found.put_in(options.split)
    with showing_training() as report:
        manifest = prepare(
            found,
            options.output,
            limits=limits,
            open_senses=partial(real_senses, english=options.english or found.layout == "grid"),
            ray_address=options.ray,
            num_processes=options.processes,
            report=report,
        )
    print(f"{options.output}: " + "\n".join(describe(manifest, len(found.sources))))


def _bounds(given: list[str], known: set[str]) -> dict[str, Any]:
    from vivavoz.errors import ConfigError

    bounds = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in known:
            raise ConfigError(f"got the limit {text!r}, expected NAME=VALUE with one of {', '.join(sorted(known))}")
        try:
            bounds[name] = float(value)
        except ValueError as error:
            raise ConfigError(f"got the limit {text!r}, expected a number after the =") from error
    return bounds
