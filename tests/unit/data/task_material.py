"""Tasks that write tiny shards, and may stop their process, or all of them, as roughly as a machine can. A program, too."""

import os
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.unit.data.shards.material import make_clip
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.manifest import Rejection
from vivavoz.data.tasks import TaskResult, run_tasks, shard_url
from vivavoz.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Job:
    name: str
    does: str = "writes"
    num_clips: int = 1


JOBS = (
    Job(name="a"),
    Job(name="b", does="kills itself"),
    Job(name="c", num_clips=2),
    Job(name="d", does="breaks"),
    Job(name="e", does="kills all"),
    Job(name="f", does="rejects"),
    Job(name="g"),
)


def work(job, folder, *, notes=None, calm=False):
    """`notes`: a folder for a file a task, with a line for each try. `calm`: nobody is killed.

    Who kills all does so at every try: a first one may have been ended, before it came to that, with the pool of one who kills
    itself.
    """
    tries = 0
    if notes is not None:
        note = Path(notes) / job.name
        with note.open("a") as file:
            file.write(f"{where()}\n")
        tries = len(note.read_text().splitlines())
    if job.does == "breaks":
        raise DataError(f"{job.name} is broken")
    if job.does == "stumbles":
        raise ZeroDivisionError("nobody thought of that")
    if job.does == "rejects":
        return TaskResult(rejected=(Rejection(source=job.name, reasons=("blurred",)),))

    def clips():
        for index in range(job.num_clips):
            yield make_clip(f"{job.name}-{index}", identity=job.name, num_frames=1)
            if calm:
                continue
            if job.does == "always dies" or (job.does == "kills itself" and tries == 1):
                os.kill(os.getpid(), signal.SIGKILL)
            if job.does == "kills all":
                os.killpg(0, signal.SIGKILL)

    return TaskResult(shard=write_shard(shard_url(folder, job), clips()))


def where():
    """The Ray node this runs on, or nothing."""
    try:
        import ray
    except ImportError:
        return ""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


if __name__ == "__main__":
    _, target, note_folder, processes, mood = sys.argv
    do = partial(work, folder=target, notes=note_folder, calm=mood == "calm")
    run_tasks(JOBS, do, target, num_processes=int(processes))
