"""A session over WebRTC: tracks of picture and sound, the user's microphone, and a data channel for events.

The tracks carry moments as they come; both count time from the same moment, so the receiver keeps them together.
"""

from __future__ import annotations

import asyncio
import fractions
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from urllib.parse import quote, unquote

import av
import numpy as np
from aiortc import RTCConfiguration, RTCDataChannel, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.sdp import SessionDescription

from vivavoz.errors import ConfigError, ProtocolError
from vivavoz.serve.dispatch import handle
from vivavoz.serve.metrics import ServerMetrics
from vivavoz.serve.moments import Moment
from vivavoz.serve.protocol import ServerEvent, SessionCreated
from vivavoz.serve.session import LiveSession
from vivavoz.serve.sound import SAMPLES_PER_MOMENT, SOUND_RATE_HZ
from vivavoz.timing import FRAME_RATE

_MAX_WAITING_MOMENTS = FRAME_RATE
_MAX_WAITING_EVENTS = 200
_GATHER_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 30.0
_VIDEO_CLOCK_HZ = 90_000
_MICROPHONE_HZ = 48_000

logger = logging.getLogger(__name__)


class MomentTrack(MediaStreamTrack):
    """Pictures or sound of a session's moments, at the pace in which they come."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.waiting: deque[Moment] = deque()
        self._changed = asyncio.Event()
        self._half: tuple[Moment, int] | None = None

    def show(self, moment: Moment) -> int:
        """Queue a moment; how many had to go for it."""
        num_dropped = 0
        if len(self.waiting) >= _MAX_WAITING_MOMENTS:
            num_dropped = len(self.waiting)
            self.waiting.clear()
        self.waiting.append(moment)
        self._changed.set()
        return num_dropped

    async def recv(self) -> av.VideoFrame | av.AudioFrame:
        """The next picture, or 20 ms of sound."""
        if self._half is not None:
            moment, start = self._half
            self._half = None
            return _sound(moment, start)
        while not self.waiting:
            if self.readyState != "live":
                raise MediaStreamError
            self._changed.clear()
            await self._changed.wait()
        moment = self.waiting.popleft()
        if self.kind == "video":
            return _picture(moment)
        self._half = (moment, SAMPLES_PER_MOMENT // 2)
        return _sound(moment, 0)

    def stop(self) -> None:
        """End the track."""
        super().stop()
        self._changed.set()


def _picture(moment: Moment) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(moment.image), format="rgb24").reformat(format="yuv420p")
    frame.pts = moment.index * _VIDEO_CLOCK_HZ // FRAME_RATE
    frame.time_base = fractions.Fraction(1, _VIDEO_CLOCK_HZ)
    return frame


def _sound(moment: Moment, start: int) -> av.AudioFrame:
    samples = np.ascontiguousarray(moment.sound[None, start : start + SAMPLES_PER_MOMENT // 2])
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate = SOUND_RATE_HZ
    frame.pts = moment.index * SAMPLES_PER_MOMENT + start
    frame.time_base = fractions.Fraction(1, SOUND_RATE_HZ)
    return frame


class PeerOutlet:
    """One peer connection of a session."""

    def __init__(self, session: LiveSession, ice_servers: list[RTCIceServer], metrics: ServerMetrics) -> None:
        self.session = session
        self._metrics = metrics
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=ice_servers))
        self._video, self._audio = MomentTrack("video"), MomentTrack("audio")
        self._channel: RTCDataChannel | None = None
        self._unsent: deque[str] = deque(maxlen=_MAX_WAITING_EVENTS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.on_close: Callable[[PeerOutlet], None] = lambda outlet: None
        self.id = ""

    async def answer(self, sdp: str, *, may_speak: bool) -> str:
        """The answer to a client's offer; the session is attached once connected. `may_speak`: take microphone and events.

        Raises:
            ProtocolError: an offer that cannot be understood, or that receives neither picture nor sound.
        """
        try:
            _check_offer(sdp)
            await self._peer.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="offer"))
            kinds = {transceiver.kind for transceiver in self._peer.getTransceivers()}
            for track in (self._video, self._audio):
                if track.kind in kinds:
                    self._peer.addTrack(track)
            self._listen(may_speak)
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        except ProtocolError:
            await self.close()
            raise
        except Exception as error:  # whatever the library makes of a malformed offer
            await self.close()
            logger.info("offer refused: %s", error)
            raise ProtocolError("the offer cannot be used; expected SDP that receives video or audio", param="sdp") from error
        self._start(self._give_up_unconnected())
        return str(self._peer.localDescription.sdp)

    def show(self, moment: Moment) -> None:
        """See `Outlet`."""
        num_dropped = self._video.show(moment)
        self._audio.show(moment)
        self._metrics.dropped.inc(num_dropped)

    def tell(self, event: ServerEvent) -> None:
        """See `Outlet`."""
        text = event.model_dump_json()
        if self._channel is not None and self._channel.readyState == "open" and self._channel.bufferedAmount < 1_000_000:
            self._channel.send(text)
        elif self._channel is None:
            self._unsent.append(text)
        if event.type == "session.closed":
            self._start(self.close())

    def flush(self) -> None:
        """See `Outlet`: sound that waits is dropped, pictures that wait go on."""
        for moment in self._audio.waiting:
            moment.sound[:] = 0

    async def close(self) -> None:
        """End the connection; a second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self.session.detach(self)
        self.on_close(self)
        self._video.stop()
        self._audio.stop()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        await self._peer.close()

    def _listen(self, may_speak: bool) -> None:
        peer = self._peer

        @peer.on("connectionstatechange")
        async def changed() -> None:
            if peer.connectionState == "connected" and not self._is_closed:
                self.session.attach(self)
            elif peer.connectionState in ("failed", "closed", "disconnected"):
                await self.close()

        if not may_speak:
            return

        @peer.on("datachannel")
        def opened(channel: RTCDataChannel) -> None:
            self._channel = channel
            self.tell(SessionCreated(session=self.session.info()))
            for text in self._unsent:
                channel.send(text)
            self._unsent.clear()
            channel.on("message", lambda message: handle(self.session, self, message))

        for receiver in peer.getReceivers():
            if receiver.track is not None and receiver.track.kind == "audio":
                self._start(self._hear(receiver.track))

    async def _hear(self, track: MediaStreamTrack) -> None:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=_MICROPHONE_HZ)
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, av.AudioFrame)
            for mono in resampler.resample(frame):
                self.session.hear(mono.to_ndarray().reshape(-1).astype(np.int16, copy=False), _MICROPHONE_HZ)

    async def _give_up_unconnected(self) -> None:
        await asyncio.sleep(_CONNECT_TIMEOUT_S)
        if self._peer.connectionState != "connected":
            await self.close()

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def parse_ice_servers(text: str) -> list[RTCIceServer]:
    """Servers from `stun:HOST:PORT` and `turn:USER:PASSWORD@HOST:PORT`, separated by commas. Raises `ConfigError`."""
    servers = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        scheme, _, rest = part.partition(":")
        credentials, _, address = rest.rpartition("@")
        if scheme not in ("stun", "turn", "turns") or not address:
            raise ConfigError(
                f"ICE server {scheme}:... is not understood; expected stun:HOST:PORT or turn:USER:PASSWORD@HOST:PORT"
            )
        user, _, password = credentials.partition(":")
        servers.append(
            RTCIceServer(urls=f"{scheme}:{address}", username=unquote(user) or None, credential=unquote(password) or None)
        )
    return servers


def ice_link(server: RTCIceServer) -> str:
    """A server as WHEP's `Link` header names it."""
    link = f'<{server.urls}>; rel="ice-server"'
    if server.username:
        user, password = quote(server.username), quote(server.credential or "")
        link += f'; username="{user}"; credential="{password}"; credential-type="password"'
    return link


def _check_offer(sdp: str) -> None:
    media = SessionDescription.parse(sdp).media
    if not any(part.kind in ("audio", "video") and part.direction in ("recvonly", "sendrecv", None) for part in media):
        raise ProtocolError("the offer receives neither video nor audio; expected one of them recvonly or sendrecv", param="sdp")
