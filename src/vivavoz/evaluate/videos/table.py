"""Tables of scores: as JSON, as Markdown, and as bars.

The chart is (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import json
import math
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import vivavoz
from vivavoz.evaluate.videos.scoring import METRICS, Scores
from vivavoz.media.image import write_image
from vivavoz.media.output import writing

_ARROWS = {"up": "↑", "down": "↓", "as real": ""}
_PAPER_COLOUR, _OWN_COLOUR, _INK = (176, 184, 196), (46, 110, 180), (40, 40, 40)
_BAR_PX, _GAP_PX, _LABEL_PX, _PANEL_PX, _HEAD_PX = 18, 6, 230, 330, 34


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One method, setting or clip."""

    label: str
    scores: Scores
    """By key of `METRICS`, or of the table's `extra` columns."""
    num_clips: int = 0
    """What the scores are means of; 0 for numbers taken from elsewhere."""
    source: str = ""
    """Where a row that was not measured here comes from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column beside the metrics'."""

    label: str
    digits: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows, and what must be said about them."""

    title: str
    rows: tuple[Row, ...]
    clips: tuple[Row, ...] = ()
    """The scores of single clips: in the JSON only."""
    extra: dict[str, Column] = field(default_factory=dict)
    """Columns that are no metric of `METRICS`."""
    notes: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    """How it was made: in the JSON."""

    def columns(self) -> dict[str, Column]:
        """The columns in which any row has a number."""
        every = {name: Column(label=_heading(name), digits=metric.digits) for name, metric in METRICS.items()} | self.extra
        return {name: column for name, column in every.items() if any(name in row.scores for row in self.rows)}


def to_markdown(table: Table) -> str:
    """The rows as a table, then the notes."""
    columns = table.columns()
    sources = any(row.source for row in table.rows)
    heads = ["", "clips", *(column.label for column in columns.values()), *(["source"] if sources else [])]
    marks = ["---", *["---:"] * (len(columns) + 1), *(["---"] if sources else [])]
    lines = [f"# {table.title}", "", _line(heads), _line(marks)]
    for row in table.rows:
        cells = [_number(row.scores.get(name), column.digits) for name, column in columns.items()]
        lines.append(_line([row.label, str(row.num_clips or ""), *cells, *([row.source or "here"] if sources else [])]))
    lines += ["", *(f"- {note}" for note in table.notes)]
    lines += [f"- {METRICS[name].label}: {METRICS[name].what}." for name in columns if name in METRICS]
    return "\n".join(lines) + "\n"


def to_json(table: Table) -> dict[str, Any]:
    """Everything; null for what is not a finite number."""
    return {
        "vivavoz": vivavoz.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "title": table.title,
        "config": table.config,
        "rows": [_plain(row) for row in table.rows],
        "clips": [_plain(row) for row in table.clips],
        "notes": list(table.notes),
    }


def write_table(table: Table, folder: Path) -> None:
    """Write `report.json`, `report.md` and `chart.png`. Raises `OutputError`."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(to_json(table), indent=2) + "\n", encoding="utf-8")
        (folder / "report.md").write_text(to_markdown(table), encoding="utf-8")
    if table.columns():
        write_image(folder / "chart.png", chart(table))


def chart(table: Table) -> NDArray[np.uint8]:
    """A panel of bars for every column that a row has a number in, three in a row of panels.

    What was measured here is blue, what was not grey; bars of numbers below zero are hollow.
    """
    panels = [_panel(table, name, column) for name, column in table.columns().items()]
    width = min(len(panels), 3)
    lines = [_side_by_side(panels[i : i + width], width * (_LABEL_PX + _PANEL_PX)) for i in range(0, len(panels), width)]
    return np.concatenate(lines)


def _side_by_side(panels: list[NDArray[np.uint8]], width_px: int) -> NDArray[np.uint8]:
    line = np.full((max(len(panel) for panel in panels), width_px, 3), 255, np.uint8)
    for i, panel in enumerate(panels):
        line[: len(panel), i * panel.shape[1] : (i + 1) * panel.shape[1]] = panel
    return line


def _panel(table: Table, name: str, column: Column) -> NDArray[np.uint8]:
    rows = [row for row in table.rows if name in row.scores]
    height = _HEAD_PX + len(rows) * (_BAR_PX + _GAP_PX) + 2 * _GAP_PX
    panel = np.full((height, _LABEL_PX + _PANEL_PX, 3), 255, np.uint8)
    label = column.label.replace("↑", "(up)").replace("↓", "(down)").replace("Δ", "gain in ")  # OpenCV writes ASCII only
    _write(panel, label, (12, 22), 0.55)
    values = [row.scores[name] for row in rows]
    most = max((abs(value) for value in values if math.isfinite(value)), default=0) or 1
    for i, (row, value) in enumerate(zip(rows, values, strict=True)):
        top = _HEAD_PX + i * (_BAR_PX + _GAP_PX)
        _write(panel, row.label[:30].encode("ascii", "replace").decode(), (12, top + 14), 0.42)
        if not math.isfinite(value):
            _write(panel, "-", (_LABEL_PX + 4, top + 14), 0.42)
            continue
        length = max(round((_PANEL_PX - 90) * abs(value) / most), 1)
        colour, form = _PAPER_COLOUR if row.source else _OWN_COLOUR, cv2.FILLED if value >= 0 else 2
        cv2.rectangle(panel, (_LABEL_PX, top), (_LABEL_PX + length, top + _BAR_PX), colour, form)
        _write(panel, _number(value, column.digits), (_LABEL_PX + length + 6, top + 14), 0.42)
    return panel


def _write(image: NDArray[np.uint8], text: str, place: tuple[int, int], scale: float) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)


def _heading(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.label} {_ARROWS[metric.better]}".strip()


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:z.{digits}f}"


def _plain(row: Row) -> dict[str, Any]:
    scores = {name: value if math.isfinite(value) else None for name, value in row.scores.items()}
    return {"label": row.label, "num_clips": row.num_clips, "source": row.source or "here", "scores": scores}
