"""A live session: the one object that every transport drives.

Speech and the user's microphone come in, moments of picture and sound go out to any number of outlets, at the clock's pace.
It lives in the event loop; pictures are made in the studio's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace

from vivavoz.engine.avatar import Avatar
from vivavoz.engine.controls import State, StreamControls
from vivavoz.serve.hearing import Hearing
from vivavoz.serve.metrics import ServerMetrics
from vivavoz.serve.moments import Moment
from vivavoz.serve.outlet import Outlet
from vivavoz.serve.protocol import (
    AvatarStateChanged,
    ErrorEvent,
    ErrorInfo,
    Metrics,
    OutputFlush,
    ServerEvent,
    SessionClosed,
    SessionControls,
    SessionInfo,
    SessionMetrics,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
)
from vivavoz.serve.settings import ServeSettings
from vivavoz.serve.sound import SOUND_RATE_HZ, Pcm
from vivavoz.serve.speaker import Speaker
from vivavoz.serve.studio import Seat, Studio
from vivavoz.serve.timeline import Timeline
from vivavoz.serve.voices import Voice
from vivavoz.timing import FRAME_RATE

Clock = Callable[[], float]

logger = logging.getLogger(__name__)


class LiveSession:
    """One avatar that speaks, listens and idles. Make it with `LiveSession.open`, and `close` it."""

    def __init__(
        self,
        *,
        avatar: Avatar,
        avatar_id: str,
        studio: Studio,
        voice: Voice,
        settings: ServeSettings,
        metrics: ServerMetrics,
        controls: SessionControls,
        clock: Clock,
    ) -> None:
        self.id = f"sess_{secrets.token_urlsafe(12)}"
        self.secret = secrets.token_urlsafe(24)
        """Lets a browser into this session, and nothing else."""
        self.avatar = avatar
        self.avatar_id = avatar_id
        self.opened_at_s = clock()
        self.used_at_s = clock()
        self.controls = controls
        self.closed_reason: str | None = None
        self._clock = clock
        self._studio = studio
        self._settings = settings
        self._metrics = metrics
        usual, most = settings.block_latents, min(settings.slow_block_latents, avatar.model.preset.generator.block_latents)
        # A compiled model takes a minute for every size of block that it has not made before.
        is_fixed = avatar.model.runtime.name == "compiled"
        self.timeline = Timeline(
            block_latents=usual,
            num_steps=avatar.model.preset.sampling.num_steps,
            quick_block_latents=usual if is_fixed else 1,
            slow_block_latents=usual if is_fixed else most,
            jitter_s=settings.speech_jitter_ms / 1000,
        )
        self._speaker = Speaker(self.timeline, voice=voice, settings=settings, clock=clock, tell=self.tell, wake=studio.wake)
        self._hearing = Hearing(self._heard)
        self._outlets: list[Outlet] = []
        self._state: State = "idle"
        self._tasks: set[asyncio.Task[None]] = set()
        self._seat: Seat | None = None
        self._num_shown = 0
        self._shown_at_s: deque[float] = deque(maxlen=2 * FRAME_RATE)
        self._counted = (0, 0, 0)
        self._attached_at_s: float | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(
        cls,
        avatar: Avatar,
        *,
        avatar_id: str,
        studio: Studio,
        voice: Voice,
        settings: ServeSettings,
        metrics: ServerMetrics,
        controls: SessionControls | None = None,
        seed: int = 0,
        clock: Clock = time.monotonic,
    ) -> LiveSession:
        """Begin a session. Nothing is made or played until an outlet is attached.

        Raises:
            ConfigError: controls that the preset does not have.
        """
        session = cls(
            avatar=avatar,
            avatar_id=avatar_id,
            studio=studio,
            voice=voice,
            settings=settings,
            metrics=metrics,
            controls=controls or SessionControls(),
            clock=clock,
        )
        session.timeline.stop(clock())
        session._check_controls(session.controls)

        def broke(error: Exception) -> None:
            session._loop.call_soon_threadsafe(session._broke, error)

        opening = studio.open(
            avatar,
            session.timeline,
            seed=seed,
            block_latents=settings.block_latents,
            wishes=_wishes(session.controls),
            on_error=broke,
        )
        session._seat = await asyncio.wrap_future(opening)
        session._apply(session.controls)
        session._start(session._play())
        session._start(session._speaker.run())
        session._start(session._report())
        return session

    # Outlets

    @contextlib.contextmanager
    def attached(self, outlet: Outlet) -> Iterator[LiveSession]:
        """While it lasts, `outlet` gets what the session shows; with no outlet the session stands still."""
        self.attach(outlet)
        try:
            yield self
        finally:
            self.detach(outlet)

    def attach(self, outlet: Outlet) -> None:
        """See `attached`."""
        self._outlets.append(outlet)
        self.used_at_s = self._clock()
        if self._attached_at_s is None:
            self._attached_at_s = self._clock()
        self.timeline.go_on(self._clock())
        self._studio.wake()

    def detach(self, outlet: Outlet) -> None:
        """See `attached`."""
        if outlet in self._outlets:
            self._outlets.remove(outlet)
        self.used_at_s = self._clock()
        if not self._outlets:
            self.timeline.stop(self._clock())

    @property
    def num_outlets(self) -> int:
        """Transports that the session goes to."""
        return len(self._outlets)

    def tell(self, event: ServerEvent) -> None:
        """Tell all outlets."""
        for outlet in list(self._outlets):
            outlet.tell(event)

    # Speaking

    def say(self, text: str) -> str:
        """Say a text after what is being said; the response's name. Raises `ServeError` when too much waits."""
        self.used_at_s = self._clock()
        return self._speaker.say(text)

    def begin_speech(self) -> str:
        """Begin a response whose sound `push_speech` brings; an open one is ended."""
        self.used_at_s = self._clock()
        return self._speaker.begin()

    def push_speech(self, samples: Pcm, rate_hz: int) -> None:
        """Sound `(N,)` int16 of the open response (one is begun if need be), faster or slower than real time.

        Raises:
            ServeError: more speech is queued than the server takes.
        """
        self.used_at_s = self._clock()
        self._speaker.push(samples, rate_hz)

    def end_speech(self) -> None:
        """The open response, if any, has all its sound."""
        self._speaker.end()

    def interrupt(self) -> None:
        """Stop speaking now: queued speech, pictures made for it, and the transports' buffers are dropped."""
        for outlet in list(self._outlets):
            outlet.flush()
        self.tell(OutputFlush(time_ms=self._num_shown * 1000 // FRAME_RATE))
        if self._seat is not None:
            # Before the timeline is: it will interrupt the stream again, where that is to begin.
            self._seat.stream.interrupt()
        self._speaker.interrupt()
        self._studio.wake()
        self._metrics.interrupts.inc()

    # Listening

    def hear(self, samples: Pcm, rate_hz: int) -> None:
        """Sound `(N,)` int16 of the user's microphone."""
        self.used_at_s = self._clock()
        self._hearing.push(samples, rate_hz)

    def listen(self, is_listening: bool) -> None:
        """Whether the user speaks, where something else than `hear` finds out."""
        self.timeline.listen(is_listening)

    def commit_hearing(self) -> None:
        """The user's turn is over."""
        self._hearing.end_turn()

    def clear_hearing(self) -> None:
        """Forget what the user said in this turn."""
        self._hearing.clear()

    # Controls

    def update(self, changes: SessionControls) -> SessionInfo:
        """Take over the fields that were given in `changes`.

        Raises:
            ConfigError: wishes that the preset has no controls for.
        """
        merged = self.controls.model_copy(update={name: getattr(changes, name) for name in changes.model_fields_set})
        self._check_controls(merged)
        self.controls = merged
        self._apply(merged)
        info = self.info()
        self.tell(SessionUpdated(session=info))
        return info

    def info(self) -> SessionInfo:
        """The session as a client sees it."""
        left_s = self.opened_at_s + self._settings.max_session_s - self._clock()
        return SessionInfo(
            id=self.id,
            avatar_id=self.avatar_id,
            size_px=self.avatar.size,
            frame_rate=FRAME_RATE,
            sound_rate_hz=SOUND_RATE_HZ,
            expires_at=int(time.time() + left_s),
            is_speaking=self._state == "speaking",
            controls=self.controls,
        )

    def measures(self) -> SessionMetrics:
        """How the session is doing."""
        now_s, timeline = self._clock(), self.timeline
        recent = sum(1 for shown_at_s in self._shown_at_s if shown_at_s > now_s - 1)
        return SessionMetrics(
            fps=float(recent),
            buffered_ms=round(1000 * timeline.buffered_s(now_s), 1),
            lead_ms=round(1000 * timeline.lead_s, 1),
            block_ms=round(1000 * timeline.block_s, 1),
            queued_ms=round(1000 * timeline.queued_s, 1),
            num_shown=self._num_shown,
            num_repeated=timeline.num_repeated,
            num_skipped=timeline.num_skipped,
            num_steps=timeline.num_steps,
            block_latents=timeline.block_latents,
            level=timeline.level,
        )

    async def close(self, reason: str = "closed") -> None:
        """End the session; a second call does nothing."""
        if self.closed_reason is not None:
            return
        self.closed_reason = reason
        self.tell(SessionClosed(reason=reason))
        tasks = list(self._tasks)
        current = asyncio.current_task()
        for task in tasks:
            if task is not current:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not current), return_exceptions=True)
        self._hearing.close()
        self._outlets.clear()
        self.timeline.stop(self._clock())
        if self._seat is not None:
            await asyncio.wrap_future(self._studio.leave(self._seat))

    # Tasks

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self.closed_reason is None:
            self._broke(error)

    async def _play(self) -> None:
        """Hand out moments as they become due."""
        while True:
            await asyncio.sleep(self.timeline.next_due_s(self._clock()))
            moments, events = self.timeline.play(self._clock())
            for moment in moments:
                self._show(moment)
            for event in events:
                self._speaker.happened(event)

    def _show(self, moment: Moment) -> None:
        if self._num_shown == 0 and self._attached_at_s is not None:
            self._metrics.first_frame_s.observe(self._clock() - self._attached_at_s)
        self._num_shown += 1
        if not moment.is_repeat:
            self._shown_at_s.append(self._clock())
        if moment.state != self._state:
            self._state = moment.state
            self.tell(AvatarStateChanged(state=moment.state, time_ms=moment.index * 1000 // FRAME_RATE))
        for outlet in list(self._outlets):
            outlet.show(moment)

    async def _report(self) -> None:
        """Once a second: how it goes, to the outlets and to the server's metrics."""
        while True:
            await asyncio.sleep(1)
            timeline = self.timeline
            counted = (self._num_shown, timeline.num_repeated, timeline.num_skipped)
            self._metrics.count(tuple(now - before for now, before in zip(counted, self._counted, strict=True)), timeline)
            self._counted = counted
            if timeline.is_running:
                self.tell(Metrics(metrics=self.measures()))

    # Parts

    def _heard(self, is_speech: bool, at_ms: int) -> None:
        """The user began or stopped to speak."""
        self.timeline.listen(is_speech)
        self.tell(SpeechStarted(audio_start_ms=at_ms) if is_speech else SpeechStopped(audio_end_ms=at_ms))
        detection = self.controls.turn_detection
        if is_speech and detection is not None and detection.interrupt_response and self._speaker.is_busy:
            self.interrupt()

    def _apply(self, controls: SessionControls) -> None:
        self.timeline.wish_state(controls.state)
        self._speaker.voice_name = controls.voice
        self._hearing.detection = controls.turn_detection
        if controls.turn_detection is None:
            self._hearing.end_turn()
        if self._seat is not None:
            self._seat.wishes = _wishes(controls)

    def _check_controls(self, controls: SessionControls) -> None:
        wishes = replace(_wishes(controls), state=controls.state)
        if wishes != StreamControls():
            wishes.check(self.avatar.model.preset.generator)

    def _broke(self, error: BaseException) -> None:
        logger.error("session %s broke", self.id, exc_info=error)
        self._metrics.errors.inc()
        self.tell(ErrorEvent(error=ErrorInfo(code="internal", message="the session broke; open another")))
        self._start(self.close("internal error"))


def _wishes(controls: SessionControls) -> StreamControls:
    return StreamControls(
        expression=controls.expression,
        expression_intensity=controls.expression_intensity,
        gaze_rad=controls.gaze_rad,
        head_pose_rad=controls.head_pose_rad,
    )
