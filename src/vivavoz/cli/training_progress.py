"""Progress of a training on stderr: a bar on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from vivavoz.data.corpus import Prepared
from vivavoz.train.run_folder import Trained

_PLAIN_INTERVAL_S = 10.0


@contextmanager
def showing_training() -> Iterator[Callable[[Prepared | Trained], None]]:
    """Hand out a function that shows how far the preparation and the training are."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _plain_lines(console)
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def show(news: Prepared | Trained) -> None:
            if isinstance(news, Prepared):
                if news.skipped:
                    console.print(f"vivavoz: left out {news.name}: {news.skipped}", markup=False)
                done, total = float(news.num_done), float(news.num_files)
            else:
                done, total = news.spent_s, news.budget_s
            bar.update(task, visible=True, description=_line(news), completed=done, total=total)

        yield show


def _plain_lines(console: Console) -> Callable[[Prepared | Trained], None]:
    last_s = -_PLAIN_INTERVAL_S

    def show(news: Prepared | Trained) -> None:
        nonlocal last_s
        if isinstance(news, Prepared) and news.skipped:
            console.print(f"vivavoz: left out {news.name}: {news.skipped}", markup=False)
        if time.monotonic() >= last_s + _PLAIN_INTERVAL_S:
            last_s = time.monotonic()
            console.print(f"vivavoz: {_line(news)}", markup=False)

    return show


def _line(news: Prepared | Trained) -> str:
    if isinstance(news, Prepared):
        return f"prepared {news.num_done}/{news.num_files}: {news.name}"
    losses = ", ".join(f"{name} {value:.3g}" for name, value in news.losses.items())
    left_minutes = max(0.0, news.budget_s - news.spent_s) / 60
    return f"{news.phase}, step {news.step}: {losses}; {left_minutes:.0f} minutes left"
