"""Metrics over folders of video files: `vivavoz evaluate videos GENERATED --real REAL`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vivavoz.errors import DataError
from vivavoz.evaluate.faces import FindLandmarks
from vivavoz.evaluate.kept import Kept, state_of
from vivavoz.evaluate.videos.clips import read_clip
from vivavoz.evaluate.videos.judges import Judges
from vivavoz.evaluate.videos.scoring import ClipScores, score_against, score_alone, summarise_scores, video_distance
from vivavoz.evaluate.videos.table import Row, Table

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoPair:
    """A generated video and the real one it is compared with, if there is one."""

    name: str
    generated: Path
    real: Path | None


def pair_videos(generated: Path, real: Path | None = None) -> list[VideoPair]:
    """The videos of a folder (or one file), each with the file of `real` that has the same name but for the suffix.

    Raises:
        DataError: no videos, or no video that has a real one.
    """
    ours = _videos(generated)
    if real is None:
        return [VideoPair(name=name, generated=path, real=None) for name, path in ours.items()]
    theirs = _videos(real)
    if generated.is_file() and real.is_file():
        return [VideoPair(name=generated.stem, generated=generated, real=real)]
    pairs = [VideoPair(name=name, generated=path, real=theirs[name]) for name, path in ours.items() if name in theirs]
    if not pairs:
        raise DataError(f"no video of {generated} has the name of one of {real}; expected pairs such as anna.mp4 in both")
    return pairs


def evaluate_videos(
    pairs: list[VideoPair],
    judges: Judges,
    find: FindLandmarks | None,
    scores: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> Table:
    """Score every video, and the real ones alone.

    Args:
        pairs: from `pair_videos`.
        judges: what is at hand.
        find: finds landmarks; None leaves out what needs them.
        scores: folder where scores are kept; those that are there are not computed again.
        progress: told how far it is.

    Raises:
        DataError: a video that cannot be read, or pairs whose pictures differ in size.
        OutputError: scores cannot be kept.
    """
    store = Kept(folder=scores, of={**judges.weights, "landmarks": "none" if find is None else "MediaPipe"})
    ours: list[ClipScores] = []
    theirs: list[ClipScores] = []
    for i, pair in enumerate(pairs):
        source = state_of(pair.generated) + ("" if pair.real is None else " against " + state_of(pair.real))
        score = partial(_score, pair, judges, find)
        ours.append(store.once(f"generated/{pair.name}", ClipScores, score, source=source))
        if (real := pair.real) is not None:
            score = partial(_score_real, real, judges, find)
            theirs.append(store.once(f"real/{pair.name}", ClipScores, score, source=state_of(real)))
        progress(f"{i + 1}/{len(pairs)} videos")
    rows = [Row(label="generated", scores=_whole(ours, theirs), num_clips=len(ours))]
    if theirs:
        rows.append(Row(label="real", scores=_whole(theirs, []), num_clips=len(theirs)))
    clips = tuple(Row(label=pair.name, scores=one.scores, num_clips=1) for pair, one in zip(pairs, ours, strict=True))
    return Table(title="Videos", rows=tuple(rows), clips=clips, notes=notes(judges, find, [*ours, *theirs]))


def notes(judges: Judges, find: FindLandmarks | None, clips: list[ClipScores]) -> tuple[str, ...]:
    """What a reader of the numbers must know: what is missing, and which weights spoke."""
    lines = [f"Left out. {line}." for line in judges.skipped]
    if find is None:
        lines.append("Left out. Whatever needs landmarks in generated videos: pip install --no-deps mediapipe==0.10.21.")
    failures = {line for clip in clips for line in clip.failures}
    lines += [f"Not scored: {line}" for line in sorted(failures)[:10]]
    if len(failures) > 10:
        lines.append(f"Not scored: {len(failures) - 10} more.")
    lines += [f"Weights of {name}: {weights}." for name, weights in judges.weights.items()]
    num_windows = sum(len(clip.features) for clip in clips if clip.features is not None)
    if num_windows:
        lines.append(f"FVD25 from {num_windows} windows in all; under a few hundred on each side it is biased upwards.")
    return tuple(lines)


def _whole(ours: list[ClipScores], theirs: list[ClipScores]) -> dict[str, float]:
    distance = video_distance([one.features for one in ours], [one.features for one in theirs])
    return {**summarise_scores(one.scores for one in ours), **distance}


def _score_real(real: Path, judges: Judges, find: FindLandmarks | None) -> ClipScores:
    return score_alone(read_clip(real, find), judges)


def _score(pair: VideoPair, judges: Judges, find: FindLandmarks | None) -> ClipScores:
    clip = read_clip(pair.generated, find)
    if pair.real is None:
        return score_alone(clip, judges)
    real = read_clip(pair.real, find)
    if real.frames.shape[1:] != clip.frames.shape[1:]:
        raise DataError(
            f"{pair.generated} has pictures of {clip.frames.shape[2]} x {clip.frames.shape[1]} and {pair.real} of "
            f"{real.frames.shape[2]} x {real.frames.shape[1]}; expected one size: crop and resize the real ones as the others are"
        )
    return score_against(clip, real, judges)


def _videos(place: Path) -> dict[str, Path]:
    if place.is_file():
        return {place.stem: place}
    found = {path.stem: path for path in sorted(place.glob("*")) if path.suffix.lower() in SUFFIXES}
    if not found:
        raise DataError(f"{place} holds no videos; give a video file, or a folder with some ({', '.join(SUFFIXES)})")
    return found
