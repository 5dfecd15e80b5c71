"""A session over a WebSocket: events as JSON, video and sound as fragmented MP4 (binary) or as JPEG and PCM events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable

import cv2
from starlette.websockets import WebSocket, WebSocketDisconnect

from vivavoz.serve.dispatch import handle
from vivavoz.serve.fragmented import MIME, FragmentedMP4
from vivavoz.serve.metrics import ServerMetrics
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
from vivavoz.serve.timeline import Moment
from vivavoz.serve.wire import encode_bytes
from vivavoz.timing import FRAME_RATE

_MAX_WAITING_MOMENTS = 2 * FRAME_RATE
"""A reader this far behind misses what it did not read."""
_SEND_TIMEOUT_S = 10.0
_MAX_WAITING_EVENTS = 1_000


class SocketOutlet:
    """What waits to be sent to one WebSocket; bounded."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._moments: deque[Moment] = deque()
        self._events: deque[ServerEvent] = deque()
        self._changed = asyncio.Event()
        self._metrics = metrics
        self._num_dropped = 0
        self.is_over = False

    def show(self, moment: Moment) -> None:
        """See `Outlet`."""
        if len(self._moments) >= _MAX_WAITING_MOMENTS:
            self._num_dropped += len(self._moments)
            self._metrics.dropped.inc(len(self._moments))
            self._moments.clear()
        self._moments.append(moment)
        self._changed.set()

    def tell(self, event: ServerEvent) -> None:
        """See `Outlet`."""
        if len(self._events) < _MAX_WAITING_EVENTS:
            self._events.append(event)
        self.is_over = self.is_over or isinstance(event, SessionClosed)
        self._changed.set()

    def flush(self) -> None:
        """See `Outlet`. Moments that wait keep their pictures and lose their sound: the clock goes on."""
        self._moments = deque(
            Moment(index=one.index, image=one.image, sound=one.sound * 0, state=one.state, is_repeat=one.is_repeat)
            for one in self._moments
        )

    async def take(self) -> tuple[list[ServerEvent], list[Moment]]:
        """Wait for something to send."""
        await self._changed.wait()
        self._changed.clear()
        events, moments = list(self._events), list(self._moments)
        self._events.clear()
        self._moments.clear()
        if self._num_dropped and moments:
            time_ms = moments[0].index * 1000 // FRAME_RATE
            events.append(OutputDropped(num_frames=self._num_dropped, time_ms=time_ms))
            self._num_dropped = 0
        return events, moments


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
            events, moments = await outlet.take()
            for event in events:
                await _within_time(socket.send_text(event.model_dump_json()))
            output = session.controls.output
            if moments and output.type == "mp4":
                if encoder is None:
                    encoder = await asyncio.to_thread(FragmentedMP4, session.avatar.size)
                    await _within_time(socket.send_text(OutputStarted(mime=MIME).model_dump_json()))
                data = await asyncio.to_thread(encoder.encode, moments)
                if data:
                    await _within_time(socket.send_bytes(data))
            elif moments and output.type == "jpeg":
                for text in await asyncio.to_thread(_frames, moments, output):
                    await _within_time(socket.send_text(text))
            if outlet.is_over and not events:
                return
            if outlet.is_over:
                await _within_time(socket.close(1000, session.closed_reason or "closed"))
                return
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
