"""A folder of videos to a corpus: the videos in groups, each group one task and one shard."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivavoz.data.corpus import Report
from vivavoz.data.phonemes import Phoneme, align, recognise
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.clip import Clip
from vivavoz.data.shards.codec import CODEC_VERSION
from vivavoz.data.shards.manifest import Manifest, Rejection
from vivavoz.data.tasks import TaskResult, run_tasks, shard_url
from vivavoz.data.video.clips import Senses, clips_of
from vivavoz.data.video.limits import Limits
from vivavoz.data.video.mediapipe_faces import MediaPipeFaces
from vivavoz.data.video.sources import Found, VideoSource
from vivavoz.data.video.voice import voice_activity
from vivavoz.errors import DataError

PREPARATION_VERSION: Final = 1
"""Raised when the same video and limits give other clips: shards of before are then made again."""
GROUP_SOURCES: Final = 32
GROUP_BYTES: Final = 32_000_000
"""A group is full with so many videos, or so many bytes of them: small enough that little is done twice after a crash."""

OpenSenses: TypeAlias = Callable[[], AbstractContextManager[Senses]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareTask:
    """Some videos that become one shard."""

    name: str
    sources: tuple[VideoSource, ...]
    limits: Limits
    missing: tuple[Rejection, ...] = ()
    """What the corpus lists and the folder lacks: told by the first task."""


@contextmanager
def real_senses(*, english: bool = False) -> Iterator[Senses]:
    """MediaPipe's eyes and Silero's ears; with `english`, the phonemes of English speech too.

    Raises:
        DataError: MediaPipe is not installed.
    """
    with closing(MediaPipeFaces()) as faces:
        yield Senses(faces=faces, voice=voice_activity, phonemes=phonemes if english else None)


def phonemes(samples: NDArray[np.float32], words: Sequence[str]) -> list[Phoneme]:
    """Sounds of English speech (N,): those of the words where they are known and fit, else what is heard."""
    if words:
        with suppress(DataError):  # a word that no dictionary has, or that was cut in two
            return align(samples, words)
    return recognise(samples)


def prepare(
    found: Found,
    folder: str,
    *,
    limits: Limits | None = None,
    open_senses: OpenSenses = real_senses,
    ray_address: str | None = None,
    num_processes: int = 1,
    report: Report | None = None,
) -> Manifest:
    """Make a corpus of the videos that `find_sources` found; called again after a stop, it goes on where it was.

    Args:
        found: the videos.
        folder: of the corpus: a path or any fsspec URL.
        limits: what a clip must be like.
        open_senses: what sees and hears, opened once for every task; picklable.
        ray_address: a Ray cluster to work on, whose machines all see the videos under the same paths.
        num_processes: how many tasks to do at a time on this machine.
        report: told about every task.

    Raises:
        DataError: MediaPipe or silero-vad is missing, or the folder holds another corpus.
        OutputError: the corpus cannot be written.
    """
    tasks = tasks_of(found, limits or Limits())
    work = partial(prepare_task, folder=folder, open_senses=open_senses)
    made_by = f"preparation {PREPARATION_VERSION}, codec {CODEC_VERSION}"
    return run_tasks(tasks, work, folder, made_by=made_by, ray_address=ray_address, num_processes=num_processes, report=report)


def tasks_of(found: Found, limits: Limits) -> list[PrepareTask]:
    """The videos in groups, in order."""
    groups: list[list[VideoSource]] = []
    num_bytes = GROUP_BYTES
    for source in found.sources:
        if num_bytes >= GROUP_BYTES or len(groups[-1]) == GROUP_SOURCES:
            groups.append([])
            num_bytes = 0
        groups[-1].append(source)
        num_bytes += Path(source.path).stat().st_size
    return [
        PrepareTask(
            name=f"video-{number:05d}", sources=tuple(group), limits=limits, missing=found.rejected if number == 0 else ()
        )
        for number, group in enumerate(groups)
    ]


def prepare_task(task: PrepareTask, *, folder: str, open_senses: OpenSenses) -> TaskResult:
    """Write the shard of some videos."""
    rejected = list(task.missing)
    with open_senses() as senses:
        shard = write_shard(shard_url(folder, task), _clips(task, senses, rejected))
    return TaskResult(shard=shard, rejected=tuple(rejected))


def _clips(task: PrepareTask, senses: Senses, rejected: list[Rejection]) -> Iterator[Clip]:
    """Clips as they come; what comes to be rejected is put beside."""
    for source in task.sources:
        for result in clips_of(source, senses, task.limits):
            if isinstance(result, Rejection):
                rejected.append(result)
            else:
                yield result


def describe(manifest: Manifest, num_sources: int) -> Sequence[str]:
    """Lines that say how much there is and why the rest was left out."""
    summary = manifest.summary()
    kept = f"{summary['clips']} clips, {summary['seconds'] / 60:.1f} minutes, {summary['identities']} people"
    lines = [f"{kept}, from {num_sources} videos; {summary['rejected']} pieces left out"]
    return lines + [f"  {count} x {reason}" for reason, count in sorted(summary["reasons"].items(), key=lambda item: -item[1])]
