"""The load client's figures, from events whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivavoz.serve.protocol import OutputDropped, OutputFrame
from vivavoz.serve.wire import encode_bytes

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import live

    return live.Meter(10.0)


def frame(index: int, *, is_repeat: bool = False, is_loud: bool = False, state: str = "idle") -> OutputFrame:
    sound = encode_bytes(np.full(960, 500 * is_loud, "<i2").tobytes())
    return OutputFrame(index=index, time_ms=40 * index, state=state, is_repeat=is_repeat, image="", audio=sound)  # type: ignore[arg-type]


def test_frames_that_are_repeated_dropped_and_late(meter: Any) -> None:
    meter.came(frame(0), 10.5)
    meter.came(frame(1), 10.54)
    meter.came(frame(2, is_repeat=True), 10.58)
    meter.came(frame(3, is_repeat=True), 10.64)
    meter.came(frame(4), 10.66)
    meter.came(OutputDropped(num_frames=5, time_ms=400), 10.9)
    meter.came(frame(10), 10.9)
    assert meter.first_frame_s == pytest.approx(0.5)
    assert meter.intervals_ms == pytest.approx([40, 40, 60, 20, 240])
    assert meter.offsets_ms == pytest.approx([0, 0, 40, 80, 0, 0])
    assert meter.fresh_offsets_ms == pytest.approx([0, 0, 0, 0])
    assert meter.frozen_ms == pytest.approx([80])
    assert meter.late_ms == pytest.approx([0, 0, 0, 20, 0, 0], abs=1e-6)
    assert (meter.num_repeated, meter.num_dropped) == (2, 5)


def test_frames_that_are_missing_without_a_word_leave_the_sound_behind(meter: Any) -> None:
    meter.came(frame(0), 10.0)
    meter.came(frame(3), 10.12)
    assert meter.num_dropped == 2
    assert meter.offsets_ms == pytest.approx([0, -80])


def test_an_interruption_lasts_until_the_last_sound_has_been_played(meter: Any) -> None:
    meter.spoke(9.9)
    meter.came(frame(0), 10.0)
    meter.came(frame(1, is_loud=True, state="speaking"), 10.04)
    meter.interrupted(10.05)
    meter.came(frame(2, is_loud=True, state="speaking"), 10.08)
    meter.came(frame(3, state="speaking"), 10.12)
    meter.came(frame(4), 10.16)
    meter.rested()
    assert meter.speech_ms == pytest.approx([140])
    assert meter.silence_ms == pytest.approx([70])
    assert meter.closing_ms == pytest.approx([110])


def test_interruptions_in_which_the_host_took_time_are_told_apart(meter: Any) -> None:
    stolen_s = iter([1.0, 1.0, 2.0, 2.03])
    meter._stolen_s = lambda: next(stolen_s)
    for start_s in (10.0, 12.0):
        meter.interrupted(start_s)
        meter.came(frame(int(25 * start_s)), start_s + 0.1)
        meter.rested()
    assert meter.closing_ms == pytest.approx([100, 100])
    assert meter.undisturbed_closing_ms == pytest.approx([100])
