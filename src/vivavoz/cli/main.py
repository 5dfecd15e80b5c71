"""Entry point: parses, runs a command, and turns what can go wrong into one line and an exit status."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import vivavoz
from vivavoz.cli import ablate, bench, data, encode, evaluations, generate, info, personalise, serve, talk, train
from vivavoz.errors import VivavozError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
_GOES_ON = "the same command goes on where it was"
"""Said by commands that set `resumes`."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints take one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_ERROR, f"vivavoz: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 for errors a user can mend, 130 when interrupted."""
    parser = _Parser(prog="vivavoz", description="Portrait images and speech in, a talking-portrait video out.")
    parser.add_argument("--version", action="version", version=f"vivavoz {vivavoz.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (generate, personalise, serve, talk, data, encode, train, evaluations, ablate, bench, info):
        command.add_parser(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except VivavozError as error:
        print(f"vivavoz: error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        goes_on = getattr(options, "resumes", False)
        print(f"vivavoz: interrupted; {_GOES_ON if goes_on else 'nothing was written'}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0
