"""Progress on stderr: a bar on a terminal, a plain line now and then elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vivavoz.engine.generate import Progress as Step

_PLAIN_INTERVAL_S = 10.0


@contextmanager
def showing_progress() -> Iterator[Callable[[Step], None]]:
    """Hand out a function that shows how far a video is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines()
        return
    columns = (
        TextColumn("{task.completed:.0f}/{task.total:.0f} frames"),
        BarColumn(),
        TextColumn("{task.fields[fps]:.1f} frames/s, real-time factor {task.fields[real_time_factor]:.2f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1, fps=0.0, real_time_factor=0.0, visible=False)

        def show(step: Step) -> None:
            bar.update(
                task,
                visible=True,
                completed=step.num_frames,
                total=step.total_frames,
                fps=step.fps,
                real_time_factor=step.real_time_factor,
            )

        yield show


def _plain_lines() -> Callable[[Step], None]:
    next_s = _PLAIN_INTERVAL_S

    def show(step: Step) -> None:
        nonlocal next_s
        if step.elapsed_s >= next_s:
            next_s = step.elapsed_s + _PLAIN_INTERVAL_S
            print(
                f"vivavoz: {step.num_frames}/{step.total_frames} frames, {step.fps:.1f} frames/s, "
                f"real-time factor {step.real_time_factor:.2f}",
                file=sys.stderr,
                flush=True,
            )

    return show
