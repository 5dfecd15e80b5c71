"""Who may come in, how often, and with how much."""

from __future__ import annotations

import hmac
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivavoz.errors import RateLimitError, ServeError
from vivavoz.serve.settings import ServeSettings, is_loopback

TOKEN_PROTOCOL = "vivavoz-token."
"""Before the token in a WebSocket's list of subprotocols: browsers cannot send headers with one."""


class AccessError(ServeError):
    """No token, or a wrong one."""


class Access:
    """A server's door."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._origins = {origin.strip().rstrip("/") for origin in settings.allowed_origins.split(",") if origin.strip()}
        self.limit = RateLimit(settings.max_requests_per_minute)

    def check(self, connection: HTTPConnection, secret: str | None = None) -> None:
        """Let a request in by the server's token or, where there is one, by a session's secret.

        Raises:
            AccessError: neither, or a web page of another origin.
        """
        self._check_origin(connection)
        if self._settings.no_auth:
            return
        given = token_of(connection)
        # Both comparisons take the same time however much of the token is right.
        is_server = hmac.compare_digest(given.encode(), (self._settings.token or "").encode())
        is_session = secret is not None and hmac.compare_digest(given.encode(), secret.encode())
        if not given or not (is_server or is_session):
            raise AccessError("no token, or a wrong one; expected the header Authorization: Bearer TOKEN")

    def check_rate(self, connection: HTTPConnection) -> None:
        """Count a request of an address. Raises `RateLimitError`."""
        self.limit.count(connection.client.host if connection.client else "unknown")

    def _check_origin(self, connection: HTTPConnection) -> None:
        """Pages of other origins stay out, and so do names that were made to point at this machine."""
        host = connection.headers.get("host", "")
        if self._settings.no_auth and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            raise AccessError(f"host is {host[:100]!r}; without a token only names of this machine are served: use 127.0.0.1")
        origin = connection.headers.get("origin")
        if origin is None or "*" in self._origins or origin.rstrip("/") in self._origins:
            return
        if urlsplit(origin).netloc != host:
            raise AccessError(f"origin {origin[:100]!r} is not allowed; name it in allowed_origins")


class RateLimit:
    """At most so many requests of one address within a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._times_s: dict[str, deque[float]] = {}

    def count(self, address: str) -> None:
        """Raises `RateLimitError` for one request too many."""
        now_s = self._clock()
        if len(self._times_s) > 10_000:
            self._times_s = {one: times_s for one, times_s in self._times_s.items() if times_s[-1] > now_s - 60}
        times_s = self._times_s.setdefault(address, deque())
        while times_s and times_s[0] <= now_s - 60:
            times_s.popleft()
        if len(times_s) >= self._per_minute:
            raise RateLimitError(f"over {self._per_minute} requests within a minute; send fewer")
        times_s.append(now_s)


def token_of(connection: HTTPConnection) -> str:
    """The token a client sent, in its header or among a WebSocket's subprotocols; empty without."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    for name in connection.headers.get("sec-websocket-protocol", "").split(","):
        if name.strip().startswith(TOKEN_PROTOCOL):
            return name.strip().removeprefix(TOKEN_PROTOCOL)
    return ""


class BodyLimit:
    """Refuses request bodies that are too large, before they are read, or while they are."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_bytes:
            await _refuse(send, self._max_bytes)
            return
        num_bytes = 0
        is_refused = False

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise ServeError(f"the request has over {self._max_bytes} bytes; send less")
            return message

        async def watched(message: Message) -> None:
            nonlocal is_refused
            if num_bytes <= self._max_bytes:
                await send(message)
            elif not is_refused:  # whatever the app made of the error
                is_refused = True
                await _refuse(send, self._max_bytes)

        await self._app(scope, counted, watched)


async def _refuse(send: Send, max_bytes: int) -> None:
    body = b'{"error":{"code":"too_large","message":"the request has over %d bytes; send less"}}' % max_bytes
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
