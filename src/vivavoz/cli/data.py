"""`vivavoz data`: corpora to train from."""

from __future__ import annotations

import argparse

from vivavoz.cli import data_animate, data_prepare, data_preview


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the group; every command of it has a file of its own."""
    parser = commands.add_parser("data", help="make and look at corpora", description=__doc__)
    group = parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    for command in (data_prepare, data_animate, data_preview):
        command.add_parser(group)
