"""What a run tells while it learns: a JSON line now and then; the same for TensorBoard, with the rate, and contact sheets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vivavoz.train.checkpoint import Progress
from vivavoz.train.sheets import Sheet

LOG_FILE = "log.jsonl"


class RunLog:
    """`log.jsonl` and TensorBoard's events of one run, going on behind `first_step`: lines of steps that are done again go."""

    def __init__(
        self, folder: Path, *, first_step: int, writes: bool, report: Callable[[dict[str, float]], None] | None = None
    ) -> None:
        self._path, self._report, self._writes = folder / LOG_FILE, report, writes
        writer = _board_kind()
        self._board = writer(str(folder), purge_step=first_step + 1 if first_step else None) if writer and writes else None
        self.has_board = writer is not None
        """Whether TensorBoard is installed: on all processes alike, though only the first one writes."""
        if writes and self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            self._path.write_text("".join(line for line in lines if _step_of(line) <= first_step), encoding="utf-8")

    def write(self, progress: Progress, values: Mapping[str, float], *, rate: float) -> None:
        """A line of the log; the learning rate, and that no step was skipped, are for TensorBoard alone."""
        if not self._writes:
            return
        line: dict[str, float] = {"step": progress.step, "seconds": round(progress.seconds, 1), **values}
        with self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in ({"skipped": 0.0} | line | {"rate": rate}).items():
                if name not in ("step", "seconds"):
                    self._board.add_scalar(name, value, progress.step)
        if self._report is not None:
            self._report(line)

    def show(self, progress: Progress, sheets: Mapping[str, Sheet]) -> None:
        """Contact sheets, for TensorBoard."""
        if self._board is not None:
            for name, sheet in sheets.items():
                self._board.add_image(name, sheet, progress.step, dataformats="HWC")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> list[dict[str, float]]:
    """All lines of a run's log; none where there is no log yet."""
    path = folder / LOG_FILE
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _board_kind() -> Any:
    """TensorBoard's writer; None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # cut short by a kill
        return 2**62
