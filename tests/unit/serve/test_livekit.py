"""The adapter for LiveKit Agents, driven by its own runner; only the room is made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from tests.models import tiniest_avatar
from tests.serving import tone
from vivavoz.serve.local import local_session
from vivavoz.serve.sound import SOUND_RATE_HZ
from vivavoz.timing import FRAME_RATE

pytest.importorskip("livekit.agents")

from livekit import rtc
from livekit.agents.voice.avatar import AvatarRunner, QueueAudioOutput

from vivavoz.serve.adapters.livekit import LiveKitAvatar


class Room:
    """A room with somebody in it who sees everything that is published."""

    def __init__(self) -> None:
        self.local_participant = self

    def isconnected(self) -> bool:
        return True

    def on(self, *_: object) -> None: ...

    off = on

    async def publish_track(self, *_: object) -> Room:
        return self

    async def wait_for_subscription(self) -> None: ...


class Watched(LiveKitAvatar):
    """Keeps what the runner was given."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[Any] = []

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for item in super().__aiter__():
            self.seen.append(item)
            yield item


def speech(seconds: float, rate_hz: int) -> rtc.AudioFrame:
    samples = tone(seconds, rate_hz)
    return rtc.AudioFrame(samples.tobytes(), rate_hz, 1, len(samples))


def test_the_runner_plays_an_agents_speech_and_tells_how_much_was_heard() -> None:
    async def talk() -> tuple[Watched, list[Any]]:
        async with local_session(tiniest_avatar()) as session:
            generator, agent, finished = Watched(session), QueueAudioOutput(), asyncio.Queue[Any]()
            agent.on("playback_finished", finished.put_nowait)
            runner = AvatarRunner(Room(), audio_recv=agent, video_gen=generator, options=generator.options)
            await runner.start()
            ended = []
            for is_interrupted in (False, True):
                await agent.capture_frame(speech(20 if is_interrupted else 0.5, 48_000))
                agent.flush()
                if is_interrupted:
                    num_before = sum(isinstance(one, rtc.AudioFrame) for one in generator.seen)
                    while sum(isinstance(one, rtc.AudioFrame) for one in generator.seen) < num_before + 5:
                        await asyncio.sleep(0.02)
                    agent.clear_buffer()
                ended.append(await asyncio.wait_for(finished.get(), 60))
            await runner.aclose()
            assert session.num_outlets == 0
            return generator, ended

    generator, (completed, interrupted) = asyncio.run(talk())
    assert not completed.interrupted
    assert completed.playback_position == pytest.approx(0.5, abs=2 / FRAME_RATE)
    assert interrupted.interrupted
    assert 0 < interrupted.playback_position < 10
    sounds = [np.frombuffer(one.data, np.int16) for one in generator.seen if isinstance(one, rtc.AudioFrame)]
    first = np.concatenate(sounds[: round(completed.playback_position * FRAME_RATE)])
    assert np.count_nonzero(first) == pytest.approx(0.5 * SOUND_RATE_HZ, rel=0.05)
    pictures = [one for one in generator.seen if isinstance(one, rtc.VideoFrame)]
    assert (pictures[0].width, pictures[0].height, pictures[0].type) == (64, 64, rtc.VideoBufferType.I420)
    assert len({bytes(picture.data) for picture in pictures}) > 3
    assert len(pictures) >= len(sounds)


def test_a_runner_that_does_not_take_frames_makes_the_session_wait() -> None:
    async def watch() -> tuple[int, list[Any]]:
        async with local_session(tiniest_avatar()) as session:
            generator = LiveKitAvatar(session)
            frames = aiter(generator)
            await anext(frames)
            while session.num_outlets:
                await asyncio.sleep(0.02)
            shown = session.measures().num_shown
            session.push_speech(tone(0.2), SOUND_RATE_HZ)
            session.end_speech()
            taken: list[Any] = []
            while not taken or not isinstance(taken[-1], rtc.AudioFrame):
                taken.append(await asyncio.wait_for(anext(frames), 60))
            return shown, taken

    shown, taken = asyncio.run(watch())
    assert shown < 3 * FRAME_RATE
    assert np.frombuffer(taken[-1].data, np.int16).any()  # nothing of the speech was lost
