"""What all runs have in common: a folder that knows its recipe, and news of how far it is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vivavoz.config_json import to_plain
from vivavoz.errors import DataError, OutputError


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How far a run is."""

    phase: str
    step: int
    losses: dict[str, float]
    """Means since the last report."""
    spent_s: float
    """Seconds of training so far: of all phases where the run's length is told in seconds, else of this one."""
    budget_s: float
    """Seconds that this takes in all, or as it looks now."""

    @classmethod
    def from_line(cls, phase: str, line: Mapping[str, float], *, spent_s: float, budget_s: float) -> Self:
        """What a line of a phase's log says."""
        losses = {name: value for name, value in line.items() if name not in ("step", "seconds")}
        return cls(phase=phase, step=int(line["step"]), losses=losses, spent_s=spent_s, budget_s=budget_s)


def begin_run(out: Path, recipe: object) -> None:
    """Make the run's folder, or see that it is one of this recipe.

    Raises:
        DataError: it is one of another recipe.
        OutputError: it cannot be written.
    """
    text, path = json.dumps(to_plain(recipe), indent=2) + "\n", out / "recipe.json"
    try:
        if not path.exists():
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            raise DataError(f"{out} holds a run of another recipe; give the same options as then, or choose another folder")
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"cannot keep a run in {out} ({error}); give a folder that can be written") from error
