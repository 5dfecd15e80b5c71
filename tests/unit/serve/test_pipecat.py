"""The adapter for Pipecat, in a pipeline of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from tests.models import tiniest_avatar
from tests.serving import tone
from vivavoz.serve.local import local_session
from vivavoz.serve.sound import SOUND_RATE_HZ
from vivavoz.timing import FRAME_RATE

pytest.importorskip("pipecat.processors.frame_processor")

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from vivavoz.serve.adapters.pipecat import PipecatAvatar


class End(FrameProcessor):
    """Keeps what comes out of the avatar."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.seen.append(frame)
        await self.push_frame(frame, direction)

    def of(self, kind: type) -> list[Any]:
        return [frame for frame in self.seen if isinstance(frame, kind)]

    async def has(self, kind: type, number: int) -> None:
        async with asyncio.timeout(120):
            while len(self.of(kind)) < number:
                await asyncio.sleep(0.02)


def speech(seconds: float) -> TTSAudioRawFrame:
    return TTSAudioRawFrame(audio=tone(seconds, 16_000).tobytes(), sample_rate=16_000, num_channels=1)


def test_speech_comes_back_with_its_pictures_and_an_interruption_stops_it() -> None:
    async def talk() -> End:
        async with local_session(tiniest_avatar()) as session:
            end = End()
            worker = PipelineWorker(Pipeline([PipecatAvatar(session), end]), enable_rtvi=False, idle_timeout_secs=None)
            runner = WorkerRunner(handle_sigint=False)
            await runner.add_workers(worker)
            running = asyncio.create_task(runner.run())
            await worker.queue_frames([TTSStartedFrame(), speech(0.5), TextFrame("beside"), TTSStoppedFrame()])
            await end.has(TTSStoppedFrame, 1)
            num_before = len(end.of(TTSAudioRawFrame))
            await worker.queue_frames([UserStartedSpeakingFrame(), TTSStartedFrame(), speech(20)])
            await end.has(TTSAudioRawFrame, num_before + 5)
            await worker.queue_frame(InterruptionFrame())
            await end.has(InterruptionFrame, 1)
            num_pictures = len(end.of(OutputImageRawFrame))
            await end.has(OutputImageRawFrame, num_pictures + FRAME_RATE)
            await worker.queue_frames([TTSStartedFrame(), speech(0.2), TTSStoppedFrame(), EndFrame()])
            await asyncio.wait_for(running, 120)
            assert session.num_outlets == 0
            return end

    end = asyncio.run(talk())
    kinds = [type(frame) for frame in end.seen]
    first_stop, interruption = kinds.index(TTSStoppedFrame), kinds.index(InterruptionFrame)
    sounds = [np.frombuffer(one.audio, np.int16) for one in end.seen[:first_stop] if isinstance(one, TTSAudioRawFrame)]
    assert np.count_nonzero(np.concatenate(sounds)) == pytest.approx(0.5 * SOUND_RATE_HZ, rel=0.05)
    assert kinds.index(TextFrame) < first_stop
    for index in (index for index, kind in enumerate(kinds) if kind is TTSAudioRawFrame):
        assert kinds[index - 1] is OutputImageRawFrame
    picture = end.of(OutputImageRawFrame)[0]
    assert (picture.size, picture.format, len(picture.image)) == ((64, 64), "RGB", 64 * 64 * 3)
    assert picture.sync_with_audio

    after = end.seen[interruption:]
    rest = [one for one in after if isinstance(one, TTSAudioRawFrame)]
    heard = sum(np.count_nonzero(np.frombuffer(one.audio, np.int16)) for one in rest)
    assert heard == pytest.approx(0.2 * SOUND_RATE_HZ, abs=0.1 * SOUND_RATE_HZ)  # of 20 s that were queued: a moment or two
    assert [type(one) for one in after if isinstance(one, TTSStoppedFrame | EndFrame)] == [TTSStoppedFrame, EndFrame]
