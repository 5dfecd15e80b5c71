"""First look at a video: its shots and faces. And the plan that follows from it: which pieces become clips, and their crops.

Pictures are counted at 25 a second from the first one of the source's part; pixels are those of the upright picture.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vivavoz.data.shards.clip import MAX_FRAMES
from vivavoz.data.video.faces import Face, FaceReader, Sighting, Track, principal_track, runs
from vivavoz.data.video.limits import Limits
from vivavoz.data.video.rate import Picture
from vivavoz.data.video.shots import change, find_cuts, thumbnail
from vivavoz.media.crop import FaceBox, portrait_square
from vivavoz.timing import FRAME_RATE

LOOK_EVERY_FRAMES: Final = 5
"""Faces are looked for five times a second."""
_MAX_GAP_FRAMES: Final = 15
"""A face that is not found for longer has gone."""
_MAX_DRIFT: Final = 0.3
"""Crop sides that a face may wander in one clip, whose crop stands still; a piece with more is halved."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Survey:
    """What the first look saw."""

    num_frames: int
    width: int
    height: int
    cuts: tuple[int, ...]
    """First pictures of all shots but the first."""
    sightings: tuple[Sighting, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Pictures `start` to `end` (not included) that shall become a clip, cut to one square, or why they cannot."""

    start: int
    end: int
    square: tuple[int, int, int] = (0, 0, 0)
    """Left, top and side."""
    reason: str = ""
    """Empty if nothing speaks against it so far."""
    detail: str = ""


def look(pictures: Iterable[Picture], faces: FaceReader, region: tuple[int, int, int, int] | None = None) -> Survey:
    """Go through a video once. Faces whose centre is outside `region` (left, top, width, height) are not counted."""
    changes: list[float] = []
    sightings: list[Sighting] = []
    before = None
    num_frames = width = height = 0
    for number, picture in enumerate(pictures):
        num_frames = number + 1
        height, width = picture.image.shape[:2]
        small = thumbnail(picture.image)
        if before is not None:
            changes.append(change(before, small))
        before = small
        if number % LOOK_EVERY_FRAMES == 0:
            found = (Face.of(points) for points in faces.faces(picture.image))
            inside = tuple(face for face in found if region is None or _within(face.box, region, width, height))
            sightings.append(Sighting(index=number, faces=inside))
    cuts = tuple(find_cuts(changes))
    return Survey(num_frames=num_frames, width=width, height=height, cuts=cuts, sightings=tuple(sightings))


def plan(survey: Survey, limits: Limits) -> list[Piece]:
    """Pieces in order of time, of at most 10 seconds, each within one shot and of one person."""
    edges = [0, *survey.cuts, survey.num_frames]
    pieces: list[Piece] = []
    for start, end in itertools.pairwise(edges):
        if end <= start:
            continue
        seen = [sighting for sighting in survey.sightings if start <= sighting.index < end]
        track = principal_track(seen)
        if (end - start) / FRAME_RATE < limits.min_seconds:
            pieces.append(Piece(start=start, end=end, reason="too short", detail=f"a shot of {(end - start) / FRAME_RATE:.2f} s"))
        elif track is None:
            pieces.append(Piece(start=start, end=end, reason="no face", detail="none found in this shot"))
        else:
            pieces += _of_shot(survey, track, start, end, limits)
    return pieces


def _of_shot(survey: Survey, track: Track, start: int, end: int, limits: Limits) -> Iterator[Piece]:
    at = start
    for run in runs(track, _MAX_GAP_FRAMES):
        first, last = run.indices[0], run.indices[-1] + LOOK_EVERY_FRAMES
        first = start if first - start < LOOK_EVERY_FRAMES else first
        last = end if end - last < LOOK_EVERY_FRAMES else last
        if first > at:
            yield Piece(start=at, end=first, reason="no face", detail="the face of this shot is not seen")
        yield from _of_run(survey, run, first, last, limits)
        at = last
    if at < end:
        yield Piece(start=at, end=end, reason="no face", detail="the face of this shot is not seen")


def _of_run(survey: Survey, run: Track, start: int, end: int, limits: Limits) -> Iterator[Piece]:
    count = -(-(end - start) // MAX_FRAMES)
    marks = [start + (end - start) * number // count for number in range(count + 1)]
    for first, last in itertools.pairwise(marks):
        inside = [number for number, index in enumerate(run.indices) if first <= index < last]
        # A piece shorter than the looks are apart is framed by the nearest one.
        inside = inside or [int(np.argmin([abs(index - first) for index in run.indices]))]
        boxes = [run.boxes[number] for number in inside]
        square = portrait_square(_median(boxes), survey.width, survey.height)
        middle = first + (last - first) // 2
        if _drift(boxes) > _MAX_DRIFT * square[2] and (middle - first) / FRAME_RATE >= limits.min_seconds:
            yield from _of_run(survey, run, first, middle, limits)
            yield from _of_run(survey, run, middle, last, limits)
        else:
            reason, detail = _against(square, boxes, [run.others[number] for number in inside], last - first, limits)
            yield Piece(start=first, end=last, square=square, reason=reason, detail=detail)


def _against(
    square: tuple[int, int, int],
    boxes: Sequence[FaceBox],
    others: Sequence[Sequence[FaceBox]],
    num_frames: int,
    limits: Limits,
) -> tuple[str, str]:
    """What speaks against a piece before its pictures are looked at one by one; two empty texts if nothing does."""
    left, top, side = square
    size = float(np.median([box.side for box in boxes]))
    if num_frames / FRAME_RATE < limits.min_seconds:
        return "too short", f"{num_frames / FRAME_RATE:.2f} s, expected {limits.min_seconds:g}"
    if side < limits.min_crop_px:
        return "resolution", f"the crop is {side} pixels wide, expected {limits.min_crop_px}"
    shared = [
        any(
            other.side > limits.max_other_face * size
            and abs(other.centre_x - left - side / 2) < (side + other.side) / 2
            and abs(other.centre_y - top - side / 2) < (side + other.side) / 2
            for other in group
        )
        for group in others
    ]
    if np.mean(shared) > limits.max_lost:
        return "several faces", f"somebody else is in the crop in {np.mean(shared):.0%} of the pictures looked at"
    return "", ""


def _within(box: FaceBox, region: tuple[int, int, int, int], width: int, height: int) -> bool:
    left, top, region_width, region_height = region
    if left + region_width > width or top + region_height > height:
        return True  # listed for another size of the video, or cut to it already
    return 0 <= box.centre_x - left < region_width and 0 <= box.centre_y - top < region_height


def _median(boxes: Sequence[FaceBox]) -> FaceBox:
    x, y, side = np.median([(box.centre_x, box.centre_y, box.side) for box in boxes], axis=0)
    return FaceBox(centre_x=float(x), centre_y=float(y), side=float(side))


def _drift(boxes: Sequence[FaceBox]) -> float:
    """Longer way between the outermost places of a face, in pixels."""
    return float(np.ptp([(box.centre_x, box.centre_y) for box in boxes], axis=0).max())
