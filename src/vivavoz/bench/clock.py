"""Clocks: spreads of times, and where the engine's time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import numpy as np
import torch

from vivavoz.engine.model import Model


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Of several times of the same thing, in the unit of the field that holds it."""

    p50: float
    """Median."""
    p95: float
    """95th percentile."""
    repeats: int
    """How many there were."""


def spread_ms(times_s: Sequence[float]) -> Spread:
    """Times in seconds as a spread in milliseconds."""
    p50, p95 = (round(1000 * float(np.percentile(times_s, q)), 3) for q in (50, 95))
    return Spread(p50=p50, p95=p95, repeats=len(times_s))


def now_s(device: torch.device) -> float:
    """Seconds of a clock that only goes on; whatever `device` was asked to do before is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def clocked(model: Model) -> Iterator[dict[str, float]]:
    """Give seconds spent since they were last set to 0 in `audio` (hearing) and `decoder` (up to pictures in main memory).

    Streams and pools of `model` that are to be timed are opened inside; each of the two waits for the device, before and after.
    """
    spent = {"audio": 0.0, "decoder": 0.0}
    device = model.device

    def timed(stage: str, step: Callable[..., Any], *, fetch: bool = False) -> Callable[..., Any]:
        @wraps(step)
        def run(*arguments: Any) -> Any:
            started_s = now_s(device)
            result = step(*arguments)
            if fetch:
                result = [part.cpu() for part in result]
            spent[stage] += now_s(device) - started_s
            return result

        return run

    runtime, hearing = model.runtime, (model.audio.next_windows, model.audio.encoder.forward)
    model.audio.next_windows, model.audio.encoder.forward = (timed("audio", step) for step in hearing)  # type: ignore[method-assign]
    model.runtime = replace(
        runtime,
        decode_first=timed("decoder", runtime.decode_first, fetch=True),
        decode=timed("decoder", runtime.decode, fetch=True),
    )
    try:
        yield spent
    finally:
        model.runtime = runtime
        model.audio.next_windows, model.audio.encoder.forward = hearing  # type: ignore[method-assign]
