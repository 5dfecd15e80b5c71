"""`vivavoz data preview`: look at a corpus in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "preview",
        help="look at a corpus in a browser",
        description="Write one HTML page that needs nothing else: players with their labels as plots over time, what was left "
        "out and why, statistics. Beside it a contact sheet as PNG.",
    )
    parser.add_argument("shards", metavar="SHARDS", help="folder of a corpus: a path or any fsspec URL")
    parser.add_argument("-o", "--output", type=Path, metavar="PAGE", help="the page, .html (default: preview.html here)")
    parser.add_argument("--clips", type=int, default=12, metavar="N", help="clips to show (default: 12)")
    parser.add_argument("--seed", type=int, default=0, help="which clips are shown (default: 0)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the page and the sheet; their names go to stdout."""
    from vivavoz.data.preview.page import write_preview

    output = options.output or Path("preview.html")
    sheet = write_preview(options.shards, output, num_clips=options.clips, seed=options.seed)
    print(f"{output}: open it in a browser")
    print(sheet)
