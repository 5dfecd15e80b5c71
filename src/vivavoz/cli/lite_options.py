"""What the commands that train on portraits and speech have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

from vivavoz.errors import ConfigError


def add_lite_options(parser: argparse.ArgumentParser, minutes: float, *, speech: bool = True) -> None:
    """Declare their options; `minutes` of training are usual."""
    parser.add_argument("--portraits", required=True, type=Path, metavar="DIR", help="pictures of faces, one person each")
    if speech:
        parser.add_argument("--speech", required=True, type=Path, metavar="DIR", help="recordings of English speech")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="folder of the run")
    parser.add_argument(
        "--minutes", type=float, default=minutes, help=f"of training, preparation not counted (default: {minutes:g})"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads to compute with (default: one per core)")


def use_lite_options(options: argparse.Namespace) -> int:
    """Check what can be checked beforehand, and give the number of threads. Raises `ConfigError`."""
    if options.threads is not None and options.threads < 1:
        raise ConfigError(f"got {options.threads} threads, expected at least 1: leave --threads out for one per core")
    check_animator()
    import torch

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return torch.get_num_threads()


def check_animator() -> None:
    """Raise `ConfigError` where what the animator needs is not installed."""
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise ConfigError("got no SciPy, expected it for the animator: pip install 'vivavoz[train,data]'") from error
