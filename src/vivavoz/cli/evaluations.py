"""`vivavoz evaluate`: how good models and videos are."""

from __future__ import annotations

import argparse

from vivavoz.cli import evaluate, evaluate_judges, evaluate_tables, evaluate_videos


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the group; every command of it has a file of its own."""
    parser = commands.add_parser("evaluate", help="measure models and videos", description=__doc__)
    group = parser.add_subparsers(dest="model", required=True, metavar="COMMAND")
    for command in (evaluate, evaluate_videos, evaluate_tables, evaluate_judges):
        command.add_parser(group)
