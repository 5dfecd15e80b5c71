"""A session over a WebSocket: events as JSON, video and sound as fragmented MP4 (binary) or as JPEG and PCM events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from dataclasses import replace

import cv2
import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from vivavoz.serve.dispatch import handle
from vivavoz.serve.fragmented import MIME, FragmentedMP4
from vivavoz.serve.metrics import ServerMetrics
from vivavoz.serve.moments import Moment
from vivavoz.serve.protocol import (
    Output,
    OutputDropped,
    OutputFrame,
    OutputStarted,
    ServerEvent,
    SessionClosed,
    SessionCreated,
)
from vivavoz.serve.session import LiveSession
from vivavoz.serve.wire import encode_bytes
from vivavoz.timing import FRAME_RATE

_MAX_WAITING_MOMENTS = 2 * FRAME_RATE
"""A reader this far behind misses what it did not read."""
_SEND_TIMEOUT_S = 10.0
_MAX_WAITING_EVENTS = 1_000


class SocketOutlet:
    """What waits to be sent to one WebSocket, in order; bounded."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._waiting: deque[Moment | ServerEvent] = deque()
        self._changed = asyncio.Event()
        self._metrics = metrics
        self._num_moments = 0
        self._num_dropped = 0

    def show(self, moment: Moment) -> None:
        """See `Outlet`."""
        if self._num_moments >= _MAX_WAITING_MOMENTS:
            self._waiting = deque(item for item in self._waiting if not isinstance(item, Moment))
            self._num_dropped += self._num_moments
            self._metrics.dropped.inc(self._num_moments)
            self._num_moments = 0
        if self._num_dropped and self._num_moments == 0:
            self.tell(OutputDropped(num_frames=self._num_dropped, time_ms=moment.index * 1000 // FRAME_RATE))
            self._num_dropped = 0
        self._waiting.append(moment)
        self._num_moments += 1
        self._changed.set()

    def tell(self, event: ServerEvent) -> None:
        """See `Outlet`."""
        if len(self._waiting) < _MAX_WAITING_EVENTS:
            self._waiting.append(event)
        self._changed.set()

    def flush(self) -> None:
        """See `Outlet`. Moments that wait keep their pictures and lose their sound: the clock goes on."""
        self._waiting = deque(
            replace(item, sound=np.zeros_like(item.sound)) if isinstance(item, Moment) else item for item in self._waiting
        )

    async def take(self) -> list[list[Moment] | ServerEvent]:
        """Wait for something to send; gives all that waits, with moments that follow each other together."""
        await self._changed.wait()
        self._changed.clear()
        taken: list[list[Moment] | ServerEvent] = []
        for item in self._waiting:
            if not isinstance(item, Moment):
                taken.append(item)
            elif taken and isinstance(taken[-1], list):
                taken[-1].append(item)
            else:
                taken.append([item])
        self._waiting.clear()
        self._num_moments = 0
        return taken


async def serve_socket(socket: WebSocket, session: LiveSession, metrics: ServerMetrics) -> None:
    """Carry a session over an accepted WebSocket until one of the two is over."""
    outlet = SocketOutlet(metrics)
    outlet.tell(SessionCreated(session=session.info()))
    with session.attached(outlet):
        tasks = [asyncio.create_task(_receive(socket, session, outlet)), asyncio.create_task(_send(socket, session, outlet))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _receive(socket: WebSocket, session: LiveSession, outlet: SocketOutlet) -> None:
    while True:
        try:
            message = await socket.receive()
        except (WebSocketDisconnect, RuntimeError):
            return
        if message["type"] == "websocket.disconnect":
            return
        handle(session, outlet, message.get("text") or message.get("bytes") or b"")


async def _send(socket: WebSocket, session: LiveSession, outlet: SocketOutlet) -> None:
    encoder: FragmentedMP4 | None = None
    try:
        while True:
            for item in await outlet.take():
                if not isinstance(item, list):
                    await _within_time(socket.send_text(item.model_dump_json()))
                    if isinstance(item, SessionClosed):
                        await _within_time(socket.close(1000, item.reason[:120]))
                        return
                elif (output := session.controls.output).type == "mp4":
                    if encoder is None:
                        encoder = await asyncio.to_thread(FragmentedMP4, session.avatar.size)
                        await _within_time(socket.send_text(OutputStarted(mime=MIME).model_dump_json()))
                    if data := await asyncio.to_thread(encoder.encode, item):
                        await _within_time(socket.send_bytes(data))
                elif output.type == "jpeg":
                    for text in await asyncio.to_thread(_frames, item, output):
                        await _within_time(socket.send_text(text))
    except (WebSocketDisconnect, RuntimeError, TimeoutError):
        return
    finally:
        if encoder is not None:  # in a thread, after what it may still be encoding there
            asyncio.get_running_loop().run_in_executor(None, encoder.close)


async def _within_time(sending: Awaitable[None]) -> None:
    async with asyncio.timeout(_SEND_TIMEOUT_S):
        await sending


def _frames(moments: list[Moment], output: Output) -> list[str]:
    return [
        OutputFrame(
            index=moment.index,
            time_ms=moment.index * 1000 // FRAME_RATE,
            state=moment.state,
            is_repeat=moment.is_repeat,
            image=encode_bytes(jpeg(moment, output.jpeg_quality)),
            audio=encode_bytes(moment.sound.astype("<i2").tobytes()),
        ).model_dump_json()
        for moment in moments
    ]


def jpeg(moment: Moment, quality: int) -> bytes:
    """A moment's picture as JPEG."""
    _, data = cv2.imencode(".jpg", moment.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()
