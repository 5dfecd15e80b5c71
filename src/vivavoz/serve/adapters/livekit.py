"""An avatar for LiveKit Agents: a `VideoGenerator` for its `AvatarRunner`.

Written against livekit-agents 1.8 (`livekit.agents.voice.avatar`) and livekit 1.1. It needs the extra `livekit`.

    generator = LiveKitAvatar(session)
    runner = AvatarRunner(room, audio_recv=receiver, video_gen=generator, options=generator.options)
    await runner.start()

Pictures come all the time, sound only while the avatar speaks: the runner counts it as what was heard of the agent's speech.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import cv2

from vivavoz.errors import ConfigError
from vivavoz.serve.moments import Moment
from vivavoz.serve.protocol import ResponseDone, ResponseStarted, ServerEvent, SessionClosed
from vivavoz.serve.session import LiveSession
from vivavoz.serve.sound import SAMPLES_PER_MOMENT, SOUND_RATE_HZ, mono_from_bytes
from vivavoz.timing import FRAME_RATE

try:
    from livekit import rtc
    from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarOptions, VideoGenerator
except ImportError as error:
    raise ConfigError(f"no {error.name} for this adapter; expected it: pip install 'vivavoz[livekit]'") from error

_MAX_WAITING = 2 * FRAME_RATE
"""Frames that a runner may be behind. The session then stands still until they are taken: nobody is in the room yet."""


class LiveKitAvatar(VideoGenerator):
    """A session as LiveKit's runner drives it. Iterate it once; the session moves while that lasts."""

    def __init__(self, session: LiveSession) -> None:
        self._session = session
        self._waiting: deque[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd] = deque()
        self._changed = asyncio.Event()
        self._speaks = self._is_attached = False

    @property
    def options(self) -> AvatarOptions:
        """What the runner has to know."""
        size_px = self._session.avatar.size
        return AvatarOptions(
            video_width=size_px,
            video_height=size_px,
            video_fps=FRAME_RATE,
            audio_sample_rate=SOUND_RATE_HZ,
            audio_channels=1,
        )

    # What the runner calls

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Speech of the agent, at any rate and pace, or its end. Raises `ServeError` when far too much waits."""
        if isinstance(frame, AudioSegmentEnd):
            self._session.end_speech()
            return
        self._session.push_speech(mono_from_bytes(frame.data, frame.num_channels), frame.sample_rate)

    def clear_buffer(self) -> None:
        """Stop speaking now. The runner tells the agent how much was heard."""
        self._session.interrupt()
        self.flush()
        self._speaks = False

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        """Pictures, their sound, and an end after every speech that was not interrupted."""
        try:
            while self._session.closed_reason is None:
                self._attach(True)
                self._changed.clear()
                if not self._waiting:
                    await self._changed.wait()
                while self._waiting:
                    yield self._waiting.popleft()
        finally:
            self._attach(False)

    # What the agent may tell

    def listen(self, is_listening: bool) -> None:
        """Whether the user speaks: for the agent session's `user_state_changed`."""
        self._session.listen(is_listening)

    # What the session calls

    def show(self, moment: Moment) -> None:
        """See `Outlet`."""
        height, width = moment.image.shape[:2]
        i420 = cv2.cvtColor(moment.image, cv2.COLOR_RGB2YUV_I420)
        self._put(rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, i420.tobytes()))
        if self._speaks or moment.sound.any():
            self._put(rtc.AudioFrame(moment.sound.tobytes(), SOUND_RATE_HZ, 1, SAMPLES_PER_MOMENT))
        if len(self._waiting) >= _MAX_WAITING:
            self._attach(False)

    def tell(self, event: ServerEvent) -> None:
        """See `Outlet`."""
        if isinstance(event, ResponseStarted):
            self._speaks = True
        elif isinstance(event, ResponseDone):
            self._speaks = False
            if event.response.status != "cancelled":
                self._put(AudioSegmentEnd())
        elif isinstance(event, SessionClosed):
            self._changed.set()

    def flush(self) -> None:
        """See `Outlet`."""
        self._waiting = deque(one for one in self._waiting if isinstance(one, rtc.VideoFrame))

    def _attach(self, wanted: bool) -> None:
        if wanted != self._is_attached:
            self._is_attached = wanted
            (self._session.attach if wanted else self._session.detach)(self)

    def _put(self, item: rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd) -> None:
        self._waiting.append(item)
        self._changed.set()
