"""A client of `vivavoz serve`: an avatar at the other end of a WebSocket.

    async with vivavoz.client.connect("http://127.0.0.1:8000", portraits=["anna.jpg"], token="...") as avatar:
        await avatar.say("Good morning.")
        async for event in avatar:
            if isinstance(event, OutputFrame):
                show(picture_of(event), sound_of(event))      # (H, W, 3) uint8 RGB; (960,) int16 at 24 kHz
            elif isinstance(event, ResponseDone):
                break

It needs the extra `serve`. Events are those of docs/protocol.md.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import cv2
import httpx
import numpy as np
import websockets
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection

from vivavoz.errors import ServeError
from vivavoz.media.image import Pixels
from vivavoz.serve.protocol import AudioFormat, OutputFrame, ServerEvent, SessionClosed, SessionCreated, SessionInfo
from vivavoz.serve.sound import Pcm, pcm_from_bytes
from vivavoz.serve.wire import encode_bytes

_SERVER_EVENTS: TypeAdapter[ServerEvent] = TypeAdapter(ServerEvent)


class LiveAvatar:
    """One connection to one session; `connect` makes it. Iterating gives the server's events until the session is over."""

    def __init__(self, socket: ClientConnection, session: SessionInfo) -> None:
        self._socket = socket
        self.session = session
        """As it was when the connection was made."""

    async def say(self, text: str) -> None:
        """Say a text after what is being said."""
        await self._send(type="response.create", response={"text": text})

    async def begin_speech(self) -> None:
        """Begin a response whose sound `push_speech` brings."""
        await self._send(type="response.create")

    async def push_speech(self, samples: Pcm) -> None:
        """Sound `(N,)` int16 for the avatar to say, at the session's rate (24 kHz unless changed), as fast as it is there."""
        await self._send(type="response.audio.append", audio=encode_bytes(samples.astype("<i2").tobytes()))

    async def end_speech(self) -> None:
        """The response has all its sound."""
        await self._send(type="response.audio.done")

    async def hear(self, samples: Pcm) -> None:
        """Sound `(N,)` int16 of the user's microphone, at the session's rate."""
        await self._send(type="input_audio_buffer.append", audio=encode_bytes(samples.astype("<i2").tobytes()))

    async def interrupt(self) -> None:
        """Stop speaking now."""
        await self._send(type="response.cancel")

    async def update(self, **session: Any) -> None:
        """Change fields of `SessionControls`: `state="listening"`, `expression="happy"`, `gaze_rad=[0.2, 0]`, ..."""
        await self._send(type="session.update", session=session)

    async def __aiter__(self) -> AsyncIterator[ServerEvent]:
        """The server's events, pictures among them. Raises `ServeError` when the connection breaks."""
        try:
            async for message in self._socket:
                event = _SERVER_EVENTS.validate_json(message)
                yield event
                if isinstance(event, SessionClosed):
                    return
            raise ServeError("the server left without a word; connect again, with the avatar rather than the session")
        except websockets.ConnectionClosedError as error:
            raise ServeError(f"the connection broke ({error}); connect again") from error

    async def _send(self, **event: Any) -> None:
        await self._socket.send(json.dumps(event))


@asynccontextmanager
async def connect(
    url: str,
    *,
    portraits: Sequence[str | Path] = (),
    avatar_id: str | None = None,
    session_id: str | None = None,
    token: str | None = None,
    audio_rate_hz: int = 24_000,
    wants_pictures: bool = True,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[LiveAvatar]:
    """Connect to an avatar, and end its session afterwards unless it was `session_id`'s.

    Args:
        url: of the server, `http://` or `https://`.
        portraits: 1 to 3 pictures of one person; or
        avatar_id: an avatar that is there; or
        session_id: a session that is there.
        token: the server's, or the session's secret.
        audio_rate_hz: of the sound that will be sent: 16000, 24000 or 48000.
        wants_pictures: whether `OutputFrame` events come.
        tls: for https, if not the system's usual.

    Raises:
        ServeError: the server is not there, or refuses.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if portraits:
        avatar_id = await _add_avatar(url, portraits, headers, tls)
    if (avatar_id is None) == (session_id is None):
        raise ServeError("got no avatar, or more than one; expected portraits, avatar_id or session_id")
    name = f"session={quote(session_id)}" if session_id is not None else f"avatar={quote(avatar_id or '')}"
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    address = urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/v1/realtime", name, ""))
    try:
        async with websockets.connect(address, additional_headers=headers, max_size=None, ssl=tls) as socket:
            first = _SERVER_EVENTS.validate_json(await socket.recv())
            if not isinstance(first, SessionCreated):
                raise ServeError(getattr(getattr(first, "error", None), "message", "the server does not speak this protocol"))
            avatar = LiveAvatar(socket, first.session)
            output = {"type": "jpeg" if wants_pictures else "none"}
            await avatar.update(output=output, audio_format=AudioFormat(rate=audio_rate_hz).model_dump())  # type: ignore[arg-type]
            yield avatar
    except (OSError, websockets.InvalidStatus, websockets.InvalidURI) as error:
        raise ServeError(f"cannot connect to {url} ({error}); check the address and the token") from error


def picture_of(frame: OutputFrame) -> Pixels:
    """`(H, W, 3)` uint8 RGB. Raises `ServeError` for what is not a JPEG."""
    image = cv2.imdecode(np.frombuffer(base64.b64decode(frame.image), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ServeError("the server sent a picture that is not a JPEG; is it the same version as this client?")
    return np.ascontiguousarray(image[..., ::-1], np.uint8)


def sound_of(frame: OutputFrame) -> Pcm:
    """`(960,)` int16 at 24 kHz."""
    return pcm_from_bytes(base64.b64decode(frame.audio))


async def _add_avatar(url: str, portraits: Sequence[str | Path], headers: dict[str, str], tls: ssl.SSLContext | None) -> str:
    try:
        files = [("images", ("picture", Path(path).read_bytes())) for path in portraits]
    except OSError as error:
        raise ServeError(f"cannot read {error.filename}: {error.strerror}; give picture files") from error
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, verify=tls or True) as client:
            answer = await client.post("/v1/avatars", files=files)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServeError(f"cannot reach {url} ({error}); is `vivavoz serve` running there?") from error
    if answer.status_code != 201:
        try:
            reason = answer.json()["error"]["message"]
        except (ValueError, KeyError):
            reason = f"status {answer.status_code}"
        raise ServeError(f"{url} refuses the portraits: {reason}")
    return str(answer.json()["id"])
