"""Making a corpus in many small tasks, on one machine or a Ray cluster; what is done stays done.

A task makes one shard. Its result lies beside that shard and is written after it, both whole or not at all: a run that was
stopped, however roughly, goes on where it was and ends with the same manifest to the byte.
"""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from vivavoz.config_json import from_plain, to_plain
from vivavoz.data.corpus import Prepared, Report
from vivavoz.data.shards.manifest import Manifest, Rejection, Shard
from vivavoz.data.shards.storage import join, read_json, remove_unfinished, size_of, write_text
from vivavoz.errors import AudioError, ConfigError, DataError, ImageError, VivavozError


class Task(Protocol):
    """One shard to make: a small frozen dataclass that pickles, whose repr says everything that its result depends on."""

    @property
    def name(self) -> str:
        """Unique in the run; the shard is NAME.tar, the result NAME.json."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResult:
    """What became of a task."""

    shard: Shard | None = None
    """As `write_shard` gave it; None where nothing could be used."""
    rejected: tuple[Rejection, ...] = ()


AnyTask = TypeVar("AnyTask", bound=Task)
Work: TypeAlias = Callable[[AnyTask], TaskResult]

FAILED: Final = "failed"
"""Reason of a task that an error nobody foresaw, or the death of its process, ended: it is tried again in the next run."""
_BROKEN_SOURCE: Final = (DataError, AudioError, ImageError)
_MAX_TRIES: Final = 3


def shard_url(folder: str, task: Task) -> str:
    """Where a task's shard belongs."""
    return join(folder, f"{task.name}.tar")


def run_tasks(
    tasks: Sequence[AnyTask],
    work: Work[AnyTask],
    folder: str,
    *,
    made_by: str = "",
    ray_address: str | None = None,
    gpus_per_task: int = 0,
    num_processes: int = 1,
    report: Report | None = None,
) -> Manifest:
    """Do the tasks that are not done yet, and write the manifest of them all.

    A task that raises `DataError`, `AudioError` or `ImageError` is done: its source is broken, and rejected for that. One that
    raises anything unforeseen, or whose process dies three times, is left out and tried again in the next run. An `OutputError`
    (a full disk) or `ConfigError` ends the run; what is done stays done.

    Args:
        tasks: in the order the manifest shall have.
        work: writes the shard of a task to `shard_url(folder, task)` and tells what became of it; a function of a module or a
            `functools.partial` of one, for it travels to other processes.
        folder: of the corpus: a path, or any fsspec URL; with Ray one that all machines see.
        made_by: what makes the shards, and its version; the manifest says it. What another version did is done again.
        ray_address: a Ray cluster that does the tasks ("local" starts one here), instead of this machine.
        gpus_per_task: how many of the cluster's GPUs a task has to itself.
        num_processes: on this machine; with 1 the tasks run in this very process.
        report: told about every task as it is done.

    Raises:
        ConfigError: two tasks of one name, less than one process, or no Ray.
        DataError: the folder holds results of other tasks of the same names.
        OutputError: a result cannot be written.
    """
    twice = [name for name, count in Counter(task.name for task in tasks).items() if count > 1]
    if twice:
        raise ConfigError(f"two tasks are called {twice[0]}; expected names of their own")
    if num_processes < 1:
        raise ConfigError(f"got {num_processes} processes, expected at least 1")
    results = [_load(task, folder, made_by) for task in tasks]
    missing = deque((index, task) for index, task in enumerate(tasks) if results[index] is None)
    do = partial(_do, work=work, folder=folder, made_by=made_by)
    if ray_address is not None:
        done = _on_ray(do, missing, ray_address, gpus_per_task)
    elif num_processes == 1:
        done = ((index, do(task)) for index, task in missing)
    else:
        done = _in_processes(do, missing, num_processes)
    num_missing = len(missing)
    for num_done, (index, result) in enumerate(done, 1):
        results[index] = result
        if report is not None:
            skipped = "" if result.shard else next((one.detail or one.reasons[0] for one in result.rejected), "nothing in it")
            report(Prepared(name=tasks[index].name, num_done=num_done, num_files=num_missing, skipped=skipped))
    whole = [result for result in results if result is not None]
    manifest = Manifest(
        shards=tuple(result.shard for result in whole if result.shard is not None),
        rejected=tuple(rejection for result in whole for rejection in result.rejected),
        made_by=made_by,
    )
    manifest.save(folder)
    return manifest


def _do(task: AnyTask, work: Work[AnyTask], folder: str, made_by: str) -> TaskResult:
    """Work on a task and save what became of it; this runs in the worker."""
    remove_unfinished(shard_url(folder, task))
    try:
        result = work(task)
    except _BROKEN_SOURCE as error:
        if isinstance(error.__cause__, ImportError):  # a missing library is not the source's fault
            raise
        result = TaskResult(rejected=(Rejection(source=task.name, reasons=("broken",), detail=str(error)),))
    except VivavozError:
        raise
    except Exception as error:
        return _failed(task, f"{type(error).__name__}: {error}")
    done = {"task": _fingerprint(task), "made_by": made_by, "result": to_plain(result)}
    write_text(_result_url(folder, task), json.dumps(done, ensure_ascii=False) + "\n")
    return result


def _load(task: Task, folder: str, made_by: str) -> TaskResult | None:
    """What became of a task in a run before; None if it is (again) to be done, or its shard is gone or cut short."""
    url = _result_url(folder, task)
    if size_of(url) is None:
        return None
    stored = read_json(url)
    if not isinstance(stored, dict) or not stored.keys() >= {"task", "result"}:
        raise DataError(f"{url} is not the result of a task; choose another folder, or remove it")
    if stored["task"] != _fingerprint(task):
        raise DataError(f"{folder} holds {task.name} made from other sources or options; give the same again, or another folder")
    if stored.get("made_by") != made_by:
        return None
    try:
        result = from_plain(TaskResult, stored["result"], url)
    except ConfigError as error:
        raise DataError(f"{error}; remove {url} to have it made again") from error
    shard = result.shard
    return result if shard is None or size_of(join(folder, shard.name)) == shard.num_bytes else None


def _in_processes(
    do: Callable[[Any], TaskResult], missing: deque[tuple[int, Any]], num_processes: int
) -> Iterator[tuple[int, TaskResult]]:
    """Results in the order they come. The death of a process takes its pool along: the tasks it had are then tried alone."""
    waiting, suspects = deque(missing), list[tuple[int, Any]]()
    while waiting or suspects:
        if suspects:
            index, task = suspects.pop()
            yield index, _alone(do, task)
            continue
        running: dict[Future[TaskResult], tuple[int, Any]] = {}
        with _pool(num_processes) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < num_processes:
                        running[pool.submit(do, waiting[0][1])] = waiting[0]
                        waiting.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        yield running.pop(future)[0], result
            except BrokenProcessPool:
                suspects = list(running.values())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _alone(do: Callable[[Any], TaskResult], task: Task) -> TaskResult:
    for _ in range(_MAX_TRIES - 1):
        with _pool(1) as pool:
            try:
                return pool.submit(do, task).result()
            except BrokenProcessPool:
                continue
    return _failed(task, f"its process died {_MAX_TRIES} times")


def _on_ray(
    do: Callable[[Any], TaskResult], missing: deque[tuple[int, Any]], address: str, num_gpus: int
) -> Iterator[tuple[int, TaskResult]]:
    """Results in the order they come; Ray places the tasks and tries those again whose worker or machine died."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError("got no Ray, expected it for a cluster: pip install 'vivavoz[ray]'") from error
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"cannot reach a Ray cluster at {address!r} ({error}); start one, or leave it out") from error
    try:
        remote = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=_MAX_TRIES - 1, scheduling_strategy="SPREAD")(_call)
        running = {remote.remote(do, task): (index, task) for index, task in missing}
        while running:
            (reference,), _ = ray.wait(list(running), num_returns=1)
            index, task = running.pop(reference)
            try:
                yield index, ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                yield index, _failed(task, f"its process died {_MAX_TRIES} times ({type(error).__name__})")
    finally:
        ray.shutdown()


def _call(do: Callable[[Any], TaskResult], task: Any) -> TaskResult:
    return do(task)


def _pool(num_processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(num_processes, mp_context=get_context("spawn"))


def _failed(task: Task, detail: str) -> TaskResult:
    return TaskResult(rejected=(Rejection(source=task.name, reasons=(FAILED,), detail=detail),))


def _result_url(folder: str, task: Task) -> str:
    return join(folder, f"{task.name}.json")


def _fingerprint(task: Task) -> str:
    return hashlib.sha256(repr(task).encode()).hexdigest()
