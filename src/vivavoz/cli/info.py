"""`vivavoz info`: what a preset is made of and what it costs."""

from __future__ import annotations

import argparse
import json


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser("info", help="show what a preset is made of and what it costs", description=__doc__)
    parser.add_argument("preset", nargs="?", default="lite", help="paper, lite or tiny (default: lite)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the account of a preset."""
    from rich.console import Console

    from vivavoz.config_json import to_plain
    from vivavoz.engine.accounting import describe, render
    from vivavoz.presets import preset_by_name

    report = describe(preset_by_name(options.preset))
    if options.json:
        print(json.dumps(to_plain(report), indent=2))
    else:
        Console().print(render(report))
