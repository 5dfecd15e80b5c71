"""Reading a track of wishes from a file: JSON (a list of objects) or CSV (a head line, then rows)."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from vivavoz.config_json import from_plain
from vivavoz.engine.controls import ControlTrack, StreamControls
from vivavoz.errors import ConfigError

_COLUMNS = ("time_s", "state", "expression", "expression_intensity", "gaze_yaw", "gaze_pitch", "yaw", "pitch", "roll")
_ANGLES = {"gaze_rad": ("gaze_yaw", "gaze_pitch"), "head_pose_rad": ("yaw", "pitch", "roll")}


def read_control_track(path: Path) -> ControlTrack:
    """The wishes in a file, each with `time_s`.

    JSON: `[{"time_s": 0, "state": "listening"}, {"time_s": 2.5, "expression": "happy", "expression_intensity": 0.7, "gaze_rad":
    [0.2, 0], "head_pose_rad": [0, 0.1, 0]}]`, with the fields of `StreamControls`. CSV: some of the columns time_s, state,
    expression, expression_intensity, gaze_yaw, gaze_pitch, yaw, pitch, roll, angles in radians; an empty cell asks for nothing.

    Raises:
        ConfigError: no such file, neither of the two, an unknown name, or values that cannot be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the controls in {path} ({error}); give a JSON or CSV file") from error
    rows = _csv_rows(text, path) if path.suffix.lower() == ".csv" else _json_rows(text, path)
    if not rows:
        raise ConfigError(f"{path} holds no controls; expected rows with time_s and what is wished from then on")
    times_s, wishes = [], []
    for number, row in enumerate(rows, 1):
        where = f"row {number} of {path}"
        if not isinstance(row, dict) or "time_s" not in row:
            raise ConfigError(f"{where} has no time_s; expected the time in seconds from which it holds")
        try:
            times_s.append(float(row.pop("time_s")))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}: time_s is not a number; expected seconds") from error
        wishes.append(from_plain(StreamControls, row, where))
    return ControlTrack(times_s=tuple(times_s), wishes=tuple(wishes))


def _json_rows(text: str, path: Path) -> list[Any]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}); expected a list of objects, or a file that ends in .csv") from error
    if not isinstance(rows, list):
        raise ConfigError(f"{path} is not a list; expected [{{'time_s': 0, 'state': 'listening'}}, ...]")
    return rows


def _csv_rows(text: str, path: Path) -> list[dict[str, Any]]:
    reader = csv.DictReader(text.splitlines())
    unknown = [name for name in reader.fieldnames or () if name not in _COLUMNS]
    if unknown:
        raise ConfigError(f"{path} has the unknown column {unknown[0]!r}; expected some of {', '.join(_COLUMNS)}")
    return [_csv_row(row, f"row {number} of {path}") for number, row in enumerate(reader, 1)]


def _csv_row(cells: dict[str, str | None], where: str) -> dict[str, Any]:
    given = {name: cell.strip() for name, cell in cells.items() if name is not None and cell is not None and cell.strip()}
    row: dict[str, Any] = {name: given[name] for name in ("time_s", "state", "expression") if name in given}
    try:
        if "expression_intensity" in given:
            row["expression_intensity"] = float(given["expression_intensity"])
        for name, columns in _ANGLES.items():
            if any(column in given for column in columns):
                row[name] = [float(given.get(column, 0.0)) for column in columns]
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; expected numbers, angles in radians") from error
    return row
