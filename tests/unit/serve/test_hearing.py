"""When a user's turn begins and ends, by a detector that takes loud sound for speech."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
import torch

from vivavoz.serve import hearing
from vivavoz.serve.hearing import Hearing
from vivavoz.serve.protocol import TurnDetection
from vivavoz.serve.sound import Pcm
from vivavoz.timing import SAMPLE_RATE_HZ


class Detector:
    """Waits until it may go on."""

    def __init__(self) -> None:
        self.may_hear = threading.Event()

    def __deepcopy__(self, memo: object) -> Detector:
        return self

    def __call__(self, window: torch.Tensor, rate_hz: int) -> torch.Tensor:
        self.may_hear.wait(10)
        return window.abs().mean() * 4


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> Detector:
    found = Detector()
    monkeypatch.setattr(hearing, "_silero", lambda: found)
    monkeypatch.setattr(hearing, "_MISSING_S", 0.05)
    return found


def listening(do: Callable[[Hearing, list[bool]], Awaitable[None]]) -> list[bool]:
    """What was told while something was done: whether speech began or ended."""
    told: list[bool] = []

    async def run() -> None:
        ear = Hearing(lambda is_speech, at_ms: told.append(is_speech))
        ear.detection = TurnDetection(threshold=0.5, silence_duration_ms=100)
        await do(ear, told)
        ear.close()

    asyncio.run(run())
    return told


def loud(seconds: float) -> Pcm:
    return np.full(int(seconds * SAMPLE_RATE_HZ), 16_000, np.int16)


async def heard(ear: Hearing) -> None:
    async with asyncio.timeout(10):
        while ear._num_waiting:
            await asyncio.sleep(0.01)


def test_what_is_heard_after_the_turn_ended_begins_no_other(detector: Detector) -> None:
    async def commit(ear: Hearing, told: list[bool]) -> None:
        ear.push(loud(0.5), SAMPLE_RATE_HZ)
        ear.end_turn()
        detector.may_hear.set()
        await heard(ear)
        assert told == []
        ear.push(loud(0.1), SAMPLE_RATE_HZ)
        await heard(ear)

    assert listening(commit) == [True]


def test_sound_that_stops_coming_ends_the_turn_and_sound_that_waits_does_not(detector: Detector) -> None:
    async def close(ear: Hearing, told: list[bool]) -> None:
        detector.may_hear.set()
        ear.push(loud(0.1), SAMPLE_RATE_HZ)
        await heard(ear)
        detector.may_hear.clear()
        ear.push(loud(0.1), SAMPLE_RATE_HZ)
        await asyncio.sleep(0.4)
        assert told == [True]
        detector.may_hear.set()
        await asyncio.sleep(0.4)

    assert listening(close) == [True, False]


def test_silence_ends_the_turn(detector: Detector) -> None:
    async def fall_silent(ear: Hearing, told: list[bool]) -> None:
        detector.may_hear.set()
        ear.push(np.concatenate([loud(0.1), np.zeros(3_200, np.int16)]), SAMPLE_RATE_HZ)
        await heard(ear)

    assert listening(fall_silent) == [True, False]
