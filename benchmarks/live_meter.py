"""What one client of a live server sees."""

import asyncio
from collections.abc import Callable

from vivavoz.client import sound_of
from vivavoz.serve.protocol import Metrics, OutputDropped, OutputFrame, ServerEvent, SessionMetrics
from vivavoz.serve.sound import SOUND_RATE_HZ
from vivavoz.timing import FRAME_RATE

MOMENT_MS = 1000 / FRAME_RATE


class Meter:
    """One client's figures, from what comes in and when. Times in seconds of one clock, whichever."""

    def __init__(self, started_s: float, stolen_s: Callable[[], float] = lambda: 0.0) -> None:
        """`stolen_s`: time that the machine's host has kept from it so far."""
        self.first_frame_s: float | None = None
        self.at_s: list[float] = []
        self.intervals_ms: list[float] = []
        self.offsets_ms: list[float] = []
        """Of every moment: how much older its picture is than its sound, to a client that plays all sound it gets. While a
        picture stands still, it grows by 40 every moment."""
        self.is_fresh: list[bool] = []
        """Of every moment: whether it has a picture of its own."""
        self.frozen_ms: list[float] = []
        """How long the picture stood still, every time that it did."""
        self.late_ms: list[float] = []
        """Of every moment: arrival after its time, counted from the first one's arrival."""
        self.speech_ms: list[float] = []
        """From pushing speech to the arrival of its first sound."""
        self.silence_ms: list[float] = []
        """From interrupting to the end of the last sound."""
        self.closing_ms: list[float] = []
        """From interrupting to the first picture that was not made for speech."""
        self.is_undisturbed: list[bool] = []
        """Of each of these: whether the host took nothing away meanwhile."""
        self.num_repeated = self.num_dropped = 0
        self.last: SessionMetrics | None = None
        self.has_sound = asyncio.Event()
        self._started_s = started_s
        self._stolen_s = stolen_s
        self._stolen_before_s = 0.0
        self._first_ms = self._sound_ms = self._picture_ms = 0.0
        self._next = 0
        self._spoken_s: float | None = None
        self._interrupted_s: float | None = None
        self._loud_until_s = 0.0
        self._is_open = self._is_frozen = False

    @property
    def fresh_offsets_ms(self) -> list[float]:
        """The offsets of moments with a picture of their own: what lips and sound are apart."""
        return [offset for offset, is_fresh in zip(self.offsets_ms, self.is_fresh, strict=True) if is_fresh]

    @property
    def undisturbed_closing_ms(self) -> list[float]:
        """`closing_ms` of interruptions in which the machine had all of its processors."""
        return [closing for closing, is_so in zip(self.closing_ms, self.is_undisturbed, strict=True) if is_so]

    def came(self, event: ServerEvent, at_s: float) -> None:
        """Count an event."""
        if isinstance(event, OutputFrame):
            self._frame(event, at_s)
        elif isinstance(event, OutputDropped):
            self.num_dropped += event.num_frames
            self._next += event.num_frames
            self._sound_ms = event.time_ms
        elif isinstance(event, Metrics):
            self.last = event.metrics

    def spoke(self, at_s: float) -> None:
        """Speech was pushed."""
        self._spoken_s = at_s
        self.has_sound.clear()

    def interrupted(self, at_s: float) -> None:
        """An interruption was called."""
        self._interrupted_s = self._loud_until_s = at_s
        self._stolen_before_s = self._stolen_s()
        self._is_open = True

    def rested(self) -> None:
        """The time for an interruption to have its effect is over."""
        if self._interrupted_s is not None:
            self.silence_ms.append(1000 * (self._loud_until_s - self._interrupted_s))
            self._interrupted_s = None

    def _frame(self, frame: OutputFrame, at_s: float) -> None:
        if self.first_frame_s is None:
            self.first_frame_s = at_s - self._started_s
            self._next = frame.index
            self._first_ms = self._sound_ms = self._picture_ms = frame.time_ms
        else:
            self.intervals_ms.append(1000 * (at_s - self.at_s[-1]))
        self.num_dropped += frame.index - self._next
        self._next = frame.index + 1
        self.num_repeated += frame.is_repeat
        if not frame.is_repeat:
            self._picture_ms = frame.time_ms
        elif self._is_frozen:
            self.frozen_ms[-1] += MOMENT_MS
        else:
            self.frozen_ms.append(MOMENT_MS)
        self._is_frozen = frame.is_repeat
        self.is_fresh.append(not frame.is_repeat)
        sound = sound_of(frame)
        self.offsets_ms.append(self._sound_ms - self._picture_ms)
        self._sound_ms += 1000 * len(sound) / SOUND_RATE_HZ
        self.at_s.append(at_s)
        self.late_ms.append(1000 * (at_s - self.at_s[0]) - (frame.time_ms - self._first_ms))
        if sound.any():
            if self._spoken_s is not None:
                self.speech_ms.append(1000 * (at_s - self._spoken_s))
                self._spoken_s = None
                self.has_sound.set()
            self._loud_until_s = at_s + MOMENT_MS / 1000
        if self._interrupted_s is not None and self._is_open and frame.state != "speaking":
            self.closing_ms.append(1000 * (at_s - self._interrupted_s))
            self.is_undisturbed.append(self._stolen_s() == self._stolen_before_s)
            self._is_open = False
