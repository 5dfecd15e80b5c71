"""A run in phases whose lengths are told in seconds."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from torch import nn

from vivavoz.train.checkpoint import load_part
from vivavoz.train.loop import LoopConfig, Objective, is_done, train
from vivavoz.train.run_folder import Trained

B = TypeVar("B")


class Phases:
    """The phases of a run, one after another: each trained, or skipped where it is done."""

    def __init__(self, out: Path, budget_s: float, report: Callable[[Trained], None] | None) -> None:
        """In folders of `out`; `budget_s` seconds in all; `report` is told, every few steps."""
        self.out, self.budget_s, self.report = out, budget_s, report
        self._before_s = 0.0

    def is_done(self, name: str, loop: LoopConfig) -> bool:
        """Whether nothing of it is left to train."""
        return is_done(self.out / name, loop)

    def train(self, name: str, objective: Objective[B], batches: Callable[[int], Iterable[B]], loop: LoopConfig) -> None:
        """Train it in the folder of its name."""
        train(objective, batches, loop, self.out / name, report=lambda line: self._tell(name, line))

    def finish(self, name: str, loop: LoopConfig, *, part: str, module: nn.Module) -> None:
        """Load what it trained into `module`, which the phase knew as `part`, and go on to the next."""
        load_part(self.out / name, part, module)
        self._before_s += loop.budget_s

    def _tell(self, name: str, line: dict[str, float]) -> None:
        if self.report is not None:
            spent_s = self._before_s + line["seconds"]
            self.report(Trained.from_line(name, line, spent_s=spent_s, budget_s=self.budget_s))
