"""Whether the user speaks: Silero's voice detection on the microphone's sound, in a thread of its own."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import torch

from vivavoz.audio.silero import load_voice_detector
from vivavoz.errors import ConfigError, ServeError
from vivavoz.serve.protocol import TurnDetection
from vivavoz.serve.sound import Pcm, RateConverter
from vivavoz.timing import SAMPLE_RATE_HZ

_WINDOW_SAMPLES: Final = 512
_MAX_WAITING_WINDOWS = 30 * SAMPLE_RATE_HZ // _WINDOW_SAMPLES
_MISSING_S = 0.5
"""Sound that is later than this is no longer expected."""
_HYSTERESIS = 0.15
"""Speech goes on until its likelihood falls this far below the threshold."""


class Hearing:
    """One user's microphone. Lives in the event loop; tells it when speech begins and ends, and at which millisecond."""

    def __init__(self, tell: Callable[[bool, int], None]) -> None:
        self.detection: TurnDetection | None = TurnDetection()
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._converter: RateConverter | None = None
        self._rest = np.zeros(0, np.int16)
        self._model: Any = None
        self._num_windows = 0
        self._num_waiting = 0
        self._quiet_windows = 0
        self._turn = 0
        self._is_speech = False
        self._is_closed = False
        self._patience: asyncio.TimerHandle | None = None

    def push(self, samples: Pcm, rate_hz: int) -> None:
        """Sound `(N,)` int16. Raises `ServeError` when far more comes than can be listened to."""
        if self.detection is None:
            return
        if self._converter is None or self._converter.rate_hz != rate_hz:
            self._converter = RateConverter(rate_hz, SAMPLE_RATE_HZ)
        sound = np.concatenate([self._rest, self._converter.push(samples)])
        num_windows = len(sound) // _WINDOW_SAMPLES
        self._rest = sound[num_windows * _WINDOW_SAMPLES :]
        if self._num_waiting + num_windows > _MAX_WAITING_WINDOWS:
            raise ServeError("over 30 s of microphone sound wait to be heard; send it no faster than real time")
        if num_windows:
            self._num_waiting += num_windows
            windows = sound[: num_windows * _WINDOW_SAMPLES].reshape(num_windows, _WINDOW_SAMPLES)
            _thread().submit(self._detect, windows, self._turn)

    def end_turn(self) -> None:
        """The user's turn is over, with what has come in: what of it is still to be heard begins no other."""
        self._turn += 1
        self._switch(False)

    def clear(self) -> None:
        """Forget the turn."""
        self._rest = self._rest[:0]
        self.end_turn()

    def close(self) -> None:
        """Hear no more."""
        self._is_closed = True
        if self._patience is not None:
            self._patience.cancel()

    def _detect(self, windows: Pcm, turn: int) -> None:
        """In the hearing thread."""
        if self._is_closed:
            return
        if self._model is None:
            self._model = copy.deepcopy(_silero())
        with torch.inference_mode():
            sound = torch.from_numpy(windows.astype(np.float32) / 32768)
            likely = [float(self._model(window[None], SAMPLE_RATE_HZ)) for window in sound]
        self._loop.call_soon_threadsafe(self._judge, likely, turn)

    def _judge(self, likely: list[float], turn: int) -> None:
        self._num_waiting -= len(likely)
        detection = self.detection
        if self._is_closed or detection is None:
            return
        for likelihood in likely:
            self._num_windows += 1
            if turn != self._turn:
                continue
            if likelihood >= detection.threshold:
                self._quiet_windows = 0
                self._switch(True)
            elif likelihood < detection.threshold - _HYSTERESIS:
                self._quiet_windows += 1
                if self._quiet_windows * 1000 * _WINDOW_SAMPLES >= detection.silence_duration_ms * SAMPLE_RATE_HZ:
                    self._switch(False)
        self._wait_for_sound(detection.silence_duration_ms / 1000)

    def _wait_for_sound(self, silence_s: float) -> None:
        """Sound that stops coming is silence: a microphone may be closed in the middle of a word."""
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self._loop.call_later(silence_s + _MISSING_S, self._miss_sound, silence_s) if self._is_speech else None

    def _miss_sound(self, silence_s: float) -> None:
        self._patience = None
        if self._num_waiting:  # it has come, and is not heard yet
            self._wait_for_sound(silence_s)
        else:
            self._switch(False)

    def _switch(self, is_speech: bool) -> None:
        if is_speech != self._is_speech:
            self._is_speech = is_speech
            self._tell(is_speech, self._num_windows * _WINDOW_SAMPLES * 1000 // SAMPLE_RATE_HZ)


@functools.cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="vivavoz-hearing")


def _silero() -> Any:
    try:
        return load_voice_detector()
    except ImportError as error:
        raise ConfigError("no silero-vad to hear the user with; expected it: pip install 'vivavoz[serve]'") from error
