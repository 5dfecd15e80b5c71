"""What an avatar is given to say, as texts or as sound, on its way to the timeline's queue."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Literal

from vivavoz.errors import ServeError, VivavozError
from vivavoz.serve.moments import SpeechEvent
from vivavoz.serve.protocol import (
    ErrorEvent,
    ErrorInfo,
    ResponseCreated,
    ResponseDone,
    ResponseInfo,
    ResponseStarted,
    ServerEvent,
)
from vivavoz.serve.settings import ServeSettings
from vivavoz.serve.sound import Pcm, RateConverter
from vivavoz.serve.timeline import Timeline
from vivavoz.serve.voices import Voice

_STATUS: dict[str, Literal["in_progress", "completed", "cancelled"]] = {
    "started": "in_progress",
    "finished": "completed",
    "cancelled": "cancelled",
}


class Speaker:
    """A session's responses, from their beginning to their end. Lives in the event loop; `run` must be running for texts."""

    def __init__(
        self,
        timeline: Timeline,
        *,
        voice: Voice,
        settings: ServeSettings,
        clock: Callable[[], float],
        tell: Callable[[ServerEvent], None],
        wake: Callable[[], None],
    ) -> None:
        self.voice_name: str | None = None
        """Of texts; None: the usual one."""
        self._timeline = timeline
        self._voice = voice
        self._settings = settings
        self._clock = clock
        self._tell = tell
        self._wake = wake
        self._texts: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._text: tuple[str, asyncio.Task[None]] | None = None
        self._failed: set[str] = set()
        self._open_response: str | None = None
        self._converter: RateConverter | None = None

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to say, or will be."""
        waits = self._text is not None or not self._texts.empty() or self._open_response is not None
        return waits or self._timeline.has_speech

    def say(self, text: str) -> str:
        """See `LiveSession.say`."""
        if self._texts.qsize() >= self._settings.max_queued_texts:
            raise ServeError(f"{self._texts.qsize()} texts wait to be spoken; wait for response.done, or cancel them")
        id = self._begin()
        self._texts.put_nowait((id, text))
        return id

    def begin(self) -> str:
        """See `LiveSession.begin_speech`."""
        self.end()
        self._open_response = self._begin()
        self._converter = None
        return self._open_response

    def push(self, samples: Pcm, rate_hz: int) -> None:
        """See `LiveSession.push_speech`."""
        self._check_room(len(samples) / rate_hz)
        id = self._open_response or self.begin()
        if self._converter is None or self._converter.rate_hz != rate_hz:
            self._converter = RateConverter(rate_hz)
        self._timeline.speak(id, self._converter.push(samples), self._clock())
        self._wake()

    def end(self) -> None:
        """See `LiveSession.end_speech`."""
        if self._open_response is not None:
            if self._converter is not None:
                self._timeline.speak(self._open_response, self._converter.flush(), self._clock())
            self._timeline.complete(self._open_response)
            self._open_response = None

    def interrupt(self) -> None:
        """Give up all there is to say, and tell so."""
        events = self._timeline.interrupt()
        known = {event.id for event in events}
        silent = [] if self._open_response is None else [self._open_response]
        self._open_response = None
        if self._text is not None:
            self._text[1].cancel()
            silent.append(self._text[0])
        while not self._texts.empty():
            silent.append(self._texts.get_nowait()[0])
        events += [SpeechEvent(id=id, kind="cancelled", played_s=0.0) for id in silent if id not in known]
        for event in events:
            self.happened(event)

    def happened(self, event: SpeechEvent) -> None:
        """Tell what became of an utterance."""
        status: Literal["in_progress", "completed", "cancelled", "failed"] = _STATUS[event.kind]
        if event.kind != "started" and event.id in self._failed:
            self._failed.discard(event.id)
            status = "failed"
        response = ResponseInfo(id=event.id, status=status, played_ms=round(1000 * event.played_s))
        self._tell(ResponseStarted(response=response) if event.kind == "started" else ResponseDone(response=response))

    async def run(self) -> None:
        """Have texts spoken, one after the other."""
        try:
            while True:
                id, text = await self._texts.get()
                self._text = id, asyncio.create_task(self._speak(id, text))
                await asyncio.wait([self._text[1]])
                self._text = None
        finally:
            if self._text is not None:
                self._text[1].cancel()

    async def _speak(self, id: str, text: str) -> None:
        try:
            async for samples in self._voice.speak(text, self.voice_name):
                while self._timeline.queued_s > self._settings.max_queued_speech_s / 2:
                    await asyncio.sleep(0.2)
                self._timeline.speak(id, samples, self._clock())
                self._wake()
        except VivavozError as error:
            self._tell(ErrorEvent(error=ErrorInfo(code="speech_failed", message=str(error))))
            self._failed.add(id)
        self._timeline.complete(id)

    def _begin(self) -> str:
        self._check_room(0.0)
        id = f"resp_{secrets.token_urlsafe(9)}"
        self._tell(ResponseCreated(response=ResponseInfo(id=id, status="in_progress", played_ms=0)))
        return id

    def _check_room(self, more_s: float) -> None:
        most_s = self._settings.max_queued_speech_s
        if self._timeline.queued_s + more_s > most_s:
            raise ServeError(f"over {most_s:.0f} s of speech would be queued, expected less: send it later, or cancel first")
