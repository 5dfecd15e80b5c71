"""A clock by which every training step takes exactly one second."""

import itertools
from types import SimpleNamespace

import pytest


class Stopped(Exception):
    """Raised in the middle of a run, in place of a kill."""


def tick(monkeypatch: pytest.MonkeyPatch, *modules, stop_after: int | None = None) -> None:
    """Give training loops a clock that goes on by a second per look; they look twice a step. Stops in step `stop_after` + 1."""
    seconds = itertools.count()

    def monotonic():
        now = next(seconds)
        if stop_after is not None and now > 2 * stop_after:
            raise Stopped
        return float(now)

    for module in modules:
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic))
