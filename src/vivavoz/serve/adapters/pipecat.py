"""An avatar for Pipecat: a processor that goes between the speech service and the transport's output.

Written against pipecat-ai 1.14. It needs the extra `pipecat`.

    Pipeline([transport.input(), stt, user, llm, tts, PipecatAvatar(session), transport.output(), assistant])

It takes the speech service's sound out of the pipeline and gives it back with the pictures, moment by moment. A picture is queued
with the sound (`sync_with_audio`), so the transport is told: `video_out_enabled=True, video_out_is_live=False`, the size
(`video_out_width`, `video_out_height`), and a `video_out_framerate` of 50, twice the avatar's, as the transport looks for a new
picture by a clock of its own.
"""

from __future__ import annotations

import asyncio

from vivavoz.errors import ConfigError, ServeError
from vivavoz.serve.moments import Moment
from vivavoz.serve.protocol import ResponseDone, ResponseStarted, ServerEvent
from vivavoz.serve.session import LiveSession
from vivavoz.serve.sound import SOUND_RATE_HZ, mono_from_bytes

try:
    from pipecat.frames.frames import (
        CancelFrame,
        EndFrame,
        Frame,
        InterruptionFrame,
        OutputImageRawFrame,
        StartFrame,
        TTSAudioRawFrame,
        TTSStoppedFrame,
        UserStartedSpeakingFrame,
        UserStoppedSpeakingFrame,
    )
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
except ImportError as error:
    raise ConfigError(f"no {error.name} for this adapter; expected it: pip install 'vivavoz[pipecat]'") from error


class PipecatAvatar(FrameProcessor):
    """A session as a stage of a pipeline. It moves from the pipeline's start to its end."""

    def __init__(self, session: LiveSession) -> None:
        super().__init__()
        self._session = session
        self._waiting: asyncio.Queue[Frame] = asyncio.Queue()
        self._sending: asyncio.Task[None] | None = None
        self._has_sound = self._speaks = False
        self._stopped: list[TTSStoppedFrame] = []
        """Of speech that is still being played, in order."""
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    # What the pipeline calls

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take speech; keep the ends of speech and of the pipeline back until it has been said; let all else pass."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            await self._speak(frame)
            return
        if isinstance(frame, TTSStoppedFrame) and self._has_sound:
            self._has_sound = False
            self._stopped.append(frame)
            self._session.end_speech()
            return
        if isinstance(frame, InterruptionFrame):
            self._session.interrupt()
        elif isinstance(frame, UserStartedSpeakingFrame | UserStoppedSpeakingFrame):
            self._session.listen(isinstance(frame, UserStartedSpeakingFrame))
        elif isinstance(frame, EndFrame):
            self._session.end_speech()
            await self._is_quiet.wait()
            await self._waiting.join()
            await self._stop()
        elif isinstance(frame, CancelFrame):
            await self._stop()
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._sending = self.create_task(self._send())
            self._session.attach(self)

    async def cleanup(self) -> None:
        """Let the session go."""
        await self._stop()
        await super().cleanup()

    # What the session calls

    def show(self, moment: Moment) -> None:
        """See `Outlet`."""
        height, width = moment.image.shape[:2]
        picture = OutputImageRawFrame(image=moment.image.tobytes(), size=(width, height), format="RGB")
        picture.sync_with_audio = True
        self._waiting.put_nowait(picture)
        if self._speaks or moment.sound.any():
            sound = TTSAudioRawFrame(audio=moment.sound.tobytes(), sample_rate=SOUND_RATE_HZ, num_channels=1)
            self._waiting.put_nowait(sound)

    def tell(self, event: ServerEvent) -> None:
        """See `Outlet`."""
        if isinstance(event, ResponseStarted):
            self._speaks = True
        elif isinstance(event, ResponseDone):
            self._speaks = False
            stopped, self._stopped = self._stopped[:1], self._stopped[1:]
            if event.response.status == "cancelled":
                self._stopped = []
            elif stopped:
                self._waiting.put_nowait(stopped[0])
            if not self._stopped and not self._has_sound:
                self._is_quiet.set()

    def flush(self) -> None:
        """See `Outlet`."""
        self._has_sound = False
        for _ in range(self._waiting.qsize()):
            frame = self._waiting.get_nowait()
            self._waiting.task_done()
            if isinstance(frame, OutputImageRawFrame):
                self._waiting.put_nowait(frame)

    # Parts

    async def _speak(self, frame: TTSAudioRawFrame) -> None:
        try:
            self._session.push_speech(mono_from_bytes(frame.audio, frame.num_channels), frame.sample_rate)
        except ServeError as error:
            await self.push_error(str(error))
            return
        self._has_sound = True
        self._is_quiet.clear()

    async def _send(self) -> None:
        while True:
            frame = await self._waiting.get()
            await self.push_frame(frame)
            self._waiting.task_done()

    async def _stop(self) -> None:
        self._session.detach(self)
        if self._sending is not None:
            task, self._sending = self._sending, None
            await self.cancel_task(task)
