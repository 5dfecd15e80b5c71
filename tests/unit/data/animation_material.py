"""A corpus of a few animated pictures, and a program that makes it and may be stopped as roughly as a machine can."""

import os
import resource
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from vivavoz.cli import main
from vivavoz.data import animation
from vivavoz.data.animation import ClipPlan, make_clip, make_shard
from vivavoz.data.performance import State

_PLAN = ClipPlan(
    key="0",
    portrait="astronaut.png",
    reader="reading.wav",
    seed=5,
    lead_frames=0,
    first_frame=3,
    speech_frames=1,
    tail_frames=0,
    lead_state=State.LISTENING,
    tail_state=State.IDLE,
)
PLANS = [_PLAN, replace(_PLAN, key="1", seed=6), replace(_PLAN, key="2", seed=7, tail_frames=7)]
"""Two shards: two clips of a picture, and one of eight."""


def arguments(sources, corpus, *more):
    """Of the command line."""
    folders = {"--portraits": sources / "portraits", "--speech": sources / "speech", "--cache": sources / "cache", "-o": corpus}
    return ["data", "animate", "--hours", "1", *(str(part) for pair in folders.items() for part in pair), *more]


@contextmanager
def small_plan(note=None, kills=""):
    """Have `PLANS` animated. With a note: once, before the last clip, somebody `kills` "itself" or "all"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(animation, "CLIPS_PER_SHARD", 2)
        patch.setattr(animation, "plan_clips", lambda names, readings, *, hours, seed: PLANS)
        if note is not None:
            patch.setattr(animation, "make_shard", partial(_dangerous_shard, note=note, kills=kills))
        yield


def _dangerous_shard(task, *, note, kills, **where):
    animation.make_clip = partial(_dangerous_clip, note=note, kills=kills)
    return make_shard(task, **where)


def _dangerous_clip(plan, *material, note, kills, **more):
    if plan == PLANS[1] and not note.exists():
        note.write_text(str(os.getpid()))
        os.kill(os.getpid() if kills == "itself" else 0, signal.SIGKILL)  # 0: all of the group
    return make_clip(plan, *material, **more)


@contextmanager
def room_for(num_bytes):
    """A disk on which no file can be longer. Python would write compiled modules to it, cut short, and trip over them later."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # of processes to come
        patch.setattr(sys, "dont_write_bytecode", True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


if __name__ == "__main__":
    _, sources, corpus, note = (Path(part) for part in sys.argv)
    with small_plan(note, "all"):
        sys.exit(main(arguments(sources, corpus)))
