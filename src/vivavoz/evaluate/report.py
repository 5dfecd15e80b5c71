"""The report of an evaluation: `report.json`, `report.md`."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import vivavoz
from vivavoz.config_json import to_plain
from vivavoz.evaluate.evaluation import Exam, Findings
from vivavoz.evaluate.tables import to_markdown
from vivavoz.media.output import writing


def write_report(findings: Sequence[Findings], exam: Exam, folder: Path) -> None:
    """Write `report.json` and `report.md` of all that was found so far. Raises `OutputError` where they cannot be written."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(to_json(findings, exam), indent=2) + "\n", encoding="utf-8")
        (folder / "report.md").write_text(to_markdown(findings, exam), encoding="utf-8")


def to_json(findings: Sequence[Findings], exam: Exam) -> dict[str, Any]:
    """All figures; null for what is not a finite number."""
    return _finite(
        {
            "vivavoz": vivavoz.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "config": to_plain(exam.config),
            "perceptual": exam.perceptual.description,
            "portraits": [portrait.name for portrait in exam.material.portraits],
            "speeches": [speech.name for speech in exam.material.speeches],
            "weights": [
                {**to_plain(one), "lip_summaries": {name: to_plain(row) for name, row in one.lips.summaries().items()}}
                if one.lips
                else to_plain(one)
                for one in findings
            ],
        }
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
