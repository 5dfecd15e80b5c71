"""What the paper's protocols have in common: which clips of a corpus are measured, their references, and a run that resumes.

Paper, 4.1 and 4.3: up to two segments for each of 66 people of HDTF; M = 1 is the first picture, M = 2 adds the last, M = 3
the middle.

Legend: T pictures, M references.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.data.shards.clip import Split
from vivavoz.data.shards.manifest import StoredClip
from vivavoz.errors import ConfigError, DataError
from vivavoz.evaluate.videos.clips import TalkingClip, head_crop, read_stored, stored_clips
from vivavoz.media.output import whole_file, writing

NUM_PEOPLE = 66
SEGMENTS_PER_PERSON = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which clips of a corpus are measured, and how much of them."""

    folder: str
    """Of the corpus: a path or any fsspec URL."""
    split: Split | None = None
    """None takes all: for a corpus that nobody trained on."""
    num_people: int = NUM_PEOPLE
    segments_per_person: int = SEGMENTS_PER_PERSON
    max_frames: int | None = None
    """Pictures of a clip, at most; None takes whole clips."""
    head: bool = False
    """Only the head, recropped: table I."""

    def __post_init__(self) -> None:
        """Refuse to choose nothing."""
        if self.num_people < 1 or self.segments_per_person < 1 or (self.max_frames is not None and self.max_frames < 3):
            raise ConfigError(
                f"got {self.num_people} people, {self.segments_per_person} segments, {self.max_frames} frames; "
                "expected >= 1, >= 1, >= 3"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A clip of the corpus that is measured."""

    shard: str
    stored: StoredClip

    @property
    def key(self) -> str:
        """The clip's."""
        return self.stored.info.key


def choose_segments(selection: Selection) -> list[Segment]:
    """The first segments, by key, of the first people, by name: the same every time.

    Raises:
        DataError: the corpus has none in this split.
    """
    by_person: dict[str, list[Segment]] = defaultdict(list)
    for shard, stored in stored_clips(selection.folder):
        if selection.split in (None, stored.info.split):
            by_person[stored.info.identity].append(Segment(shard=shard, stored=stored))
    if not by_person:
        raise DataError(
            f"{selection.folder} has no clips in split {selection.split}; leave the split out, or name another corpus"
        )
    people = sorted(by_person)[: selection.num_people]
    return [
        one for person in people for one in sorted(by_person[person], key=lambda one: one.key)[: selection.segments_per_person]
    ]


def amount(segments: Sequence[Segment]) -> str:
    """How much it is: 1 person, 2 clips."""
    people = len({segment.stored.info.identity for segment in segments})
    return f"{people} {'person' if people == 1 else 'people'}, {len(segments)} {'clip' if len(segments) == 1 else 'clips'}"


def read_segment(selection: Selection, segment: Segment) -> TalkingClip:
    """The real clip, as the selection wants it. Raises `DataError`."""
    clip = read_stored(selection.folder, segment.shard, segment.stored)
    if selection.max_frames is not None:
        clip = clip.cut(selection.max_frames)
    return head_crop(clip) if selection.head else clip


def references_of(clip: TalkingClip, count: int) -> list[NDArray[np.uint8]]:
    """M = 1: the first picture; 2: the last too; 3: the middle one too."""
    frames = clip.frames
    return [frames[0], frames[-1], frames[len(frames) // 2]][:count]


def resized(clip: TalkingClip, size_px: int) -> TalkingClip:
    """The clip with square pictures of another size, landmarks with them."""
    if clip.frames.shape[1] == size_px:
        return clip
    factor = np.float32(size_px / clip.frames.shape[1])
    return replace(
        clip,
        frames=np.stack([resize(image, size_px) for image in clip.frames]),
        landmarks=None if clip.landmarks is None else clip.landmarks * factor,
    )


def resize(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """A square picture at another size."""
    kind = cv2.INTER_AREA if size_px < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (size_px, size_px), interpolation=kind), np.uint8)


def claim(folder: Path, config: dict[str, Any]) -> None:
    """Note in `run.json` what a folder's results are of; go on only where that is the same.

    Raises:
        ConfigError: the folder holds another run's results.
        OutputError: it cannot be written.
    """
    note = folder / "run.json"
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    if note.is_file():
        if note.read_text(encoding="utf-8") != text:
            raise ConfigError(
                f"{folder} holds another run (see {note.name}); expected the same model and options: name a new folder"
            )
        return
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with whole_file(note, (".json",)) as temporary, writing(note):
        temporary.write_text(text, encoding="utf-8")
