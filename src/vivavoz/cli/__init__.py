"""The command line: `vivavoz generate`, `vivavoz info`."""

from vivavoz.cli.main import main

__all__ = ["main"]
