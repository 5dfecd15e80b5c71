"""Scores that are kept beside a report, a file for every clip, so that a stopped run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vivavoz.errors import DataError
from vivavoz.evaluate.videos.scoring import ClipScores
from vivavoz.media.output import whole_file, writing


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreStore:
    """A folder of scores. What other judges said is not used again."""

    folder: Path
    made_with: Mapping[str, str]
    """What the numbers depend on beside the clip: `Judges.weights`."""

    def once(self, name: str, source: str, score: Callable[[], ClipScores]) -> ClipScores:
        """The scores kept under `name`, or those that `score` gives now, which are then kept.

        `source` says what was scored, such as a file's size and date: another one is scored again. Raises `OutputError`.
        """
        path = self.folder / f"{name}.json"
        depends = {"source": source, "made_with": dict(self.made_with)}
        kept = _read(path)
        if kept is not None and kept[0] == depends:
            return kept[1]
        found = score()
        content = {
            **depends,
            "scores": found.scores,
            "failures": found.failures,
            "features": None if found.features is None else found.features.tolist(),
        }
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, (".json",)) as temporary, writing(path):
            temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
        return found


def state_of(path: Path) -> str:
    """Size and date of a file. Raises `DataError` where there is none."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; give a video file") from error
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def _read(path: Path) -> tuple[dict, ClipScores] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        features = content["features"]
        scores = ClipScores(
            scores=content["scores"],
            features=None if features is None else np.array(features, np.float32).reshape(len(features), -1),
            failures=tuple(content["failures"]),
        )
        return {"source": content["source"], "made_with": content["made_with"]}, scores
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never made, or not whole: made again
