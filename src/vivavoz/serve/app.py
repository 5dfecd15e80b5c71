"""The server's HTTP side: avatars, sessions, WebRTC offers, health. `/openapi.json` describes it all."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, File, Form, Request, Response, UploadFile, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import Field
from starlette.middleware.cors import CORSMiddleware

import vivavoz
from vivavoz.engine.model import Model
from vivavoz.errors import CapacityError, NotFoundError, RateLimitError, VivavozError
from vivavoz.media.crop import CropMode
from vivavoz.serve.access import TOKEN_PROTOCOL, Access, AccessError, BodyLimit
from vivavoz.serve.dispatch import error_info
from vivavoz.serve.house import House, Shelf
from vivavoz.serve.protocol import ErrorInfo, SessionControls, SessionInfo, SessionMetrics, Strict
from vivavoz.serve.realtime import serve_socket
from vivavoz.serve.session import LiveSession
from vivavoz.serve.settings import ServeSettings
from vivavoz.serve.voices import Voice, VoiceList
from vivavoz.serve.web import add_page
from vivavoz.serve.webrtc import PeerOutlet, ice_link, parse_ice_servers

RETRY_AFTER_S = 5


class AvatarInfo(Strict):
    """A person that sessions can show."""

    id: str
    size_px: int
    num_faces: list[int]
    """Found in each picture; the largest is animated."""
    expires_in_s: int
    """If nobody uses it."""


class SessionOrder(Strict):
    """What session to open."""

    avatar_id: str = Field(max_length=64)
    controls: SessionControls | None = None
    seed: int = Field(default=0, ge=0, lt=2**63)


class IceServer(Strict):
    """A STUN or TURN server, as `RTCPeerConnection` takes it."""

    urls: str
    username: str | None = None
    credential: str | None = None


class OpenedSession(Strict):
    """A session, the secret that lets a browser into it and nothing else, and what its WebRTC needs."""

    session: SessionInfo
    client_secret: str
    ice_servers: list[IceServer]


class SessionStatus(Strict):
    """A session and how it is doing."""

    session: SessionInfo
    metrics: SessionMetrics


class TextOrder(Strict):
    """What to say."""

    text: str = Field(min_length=1, max_length=4000)


class SpeechReceipt(Strict):
    """A response that is queued."""

    response_id: str


class Offer(Strict):
    """A WebRTC offer, with all its candidates."""

    sdp: str = Field(max_length=100_000)
    type: str = Field(default="offer", pattern="^offer$")


class Answer(Strict):
    """Its answer."""

    sdp: str
    type: str = "answer"


class Failure(Strict):
    """Every error's body."""

    error: ErrorInfo


_STATUS: dict[type[VivavozError], int] = {AccessError: 401, NotFoundError: 404, CapacityError: 503, RateLimitError: 429}
_ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": Failure} for status in (400, 401, 404, 413, 422, 429, 503)}


def make_app(
    model: Model, settings: ServeSettings, *, voice: Voice | None = None, place: str = "", shelf: Shelf | None = None
) -> FastAPI:
    """A server for `model`; for `place` and `shelf` see `House`. Raises `ConfigError` for settings that cannot be."""
    house = House(model, settings, voice=voice, place=place, shelf=shelf)
    access = Access(settings)
    ice_servers = parse_ice_servers(settings.ice_servers)
    peers: dict[str, PeerOutlet] = {}

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with house:
            yield
            for peer in list(peers.values()):
                await peer.close()

    # No page at /docs: FastAPI's loads scripts from another host.
    app = FastAPI(title="vivavoz", version=vivavoz.__version__, lifespan=life, description=__doc__, docs_url=None, redoc_url=None)
    app.state.house = house
    app.state.peers = peers
    app.add_middleware(BodyLimit, max_bytes=settings.upload_bytes)
    if settings.allowed_origins:
        origins = [origin.strip() for origin in settings.allowed_origins.split(",")]
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=["Location"]
        )

    def enter(request: Request) -> None:
        access.check(request)

    def enter_often(request: Request) -> None:
        access.check(request)
        access.check_rate(request)

    def enter_session(request: Request, session_id: str) -> LiveSession:
        session = house.sessions.get(session_id)
        access.check(request, None if session is None else session.secret)
        return house.session(session_id)

    Inside = Annotated[LiveSession, Depends(enter_session)]

    @app.exception_handler(VivavozError)
    async def failed(_: Request, error: VivavozError) -> JSONResponse:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return _failure(status, error_info(error).model_copy(update={"code": _CODES.get(status, "invalid_value")}), headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        what = "unknown field" if first["type"] == "extra_forbidden" else first["msg"]
        return _failure(422, ErrorInfo(code="invalid_value", message=f"{param or 'body'}: {what}", param=param or None))

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], responses={503: {"model": Failure}})
    async def readyz() -> dict[str, str]:
        """Whether sessions can be opened."""
        if not house.is_ready or len(house.sessions) >= settings.max_sessions:
            raise CapacityError("not ready, or all sessions are taken; try another server")
        return {"status": "ready"}

    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(house.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/voices", tags=["sessions"], responses=_ERRORS, dependencies=[Depends(enter)])
    async def voices() -> VoiceList:
        """What `voice` of a session may be."""
        return await house.voice.choices()

    @app.post("/v1/avatars", status_code=201, tags=["avatars"], responses=_ERRORS, dependencies=[Depends(enter_often)])
    async def add_avatar(images: Annotated[list[UploadFile], File()], crop: Annotated[CropMode, Form()] = "auto") -> AvatarInfo:
        """Make an avatar from one to three pictures of one person."""
        kept = await house.add_avatar([await image.read() for image in images], crop)
        return AvatarInfo(
            id=kept.id, size_px=kept.avatar.size, num_faces=list(kept.num_faces), expires_in_s=int(settings.avatar_ttl_s)
        )

    @app.delete("/v1/avatars/{avatar_id}", status_code=204, tags=["avatars"], responses=_ERRORS, dependencies=[Depends(enter)])
    async def drop_avatar(avatar_id: str) -> None:
        """Forget an avatar; sessions that show it go on."""
        await house.drop_avatar(avatar_id)

    @app.post("/v1/sessions", status_code=201, tags=["sessions"], responses=_ERRORS, dependencies=[Depends(enter_often)])
    async def open_session(order: SessionOrder) -> OpenedSession:
        """Open a session. It begins to move when something is connected to it."""
        session = await house.open_session(order.avatar_id, order.controls, order.seed)
        mine = [IceServer(urls=str(one.urls), username=one.username, credential=one.credential) for one in ice_servers]
        return OpenedSession(session=session.info(), client_secret=session.secret, ice_servers=mine)

    @app.get("/v1/sessions/{session_id}", tags=["sessions"], responses=_ERRORS)
    async def get_session(session: Inside) -> SessionStatus:
        """A session, and how it is doing."""
        return SessionStatus(session=session.info(), metrics=session.measures())

    @app.patch("/v1/sessions/{session_id}", tags=["sessions"], responses=_ERRORS)
    async def change_session(session: Inside, changes: SessionControls) -> SessionInfo:
        """Change the fields that are given."""
        return session.update(changes)

    @app.delete("/v1/sessions/{session_id}", status_code=204, tags=["sessions"], responses=_ERRORS)
    async def end_session(session: Inside) -> None:
        """End a session."""
        await house.end_session(session.id)

    @app.post("/v1/sessions/{session_id}/say", status_code=202, tags=["sessions"], responses=_ERRORS)
    async def say(session: Inside, order: TextOrder) -> SpeechReceipt:
        """Say a text, after what is being said."""
        return SpeechReceipt(response_id=session.say(order.text))

    @app.post("/v1/sessions/{session_id}/interrupt", status_code=204, tags=["sessions"], responses=_ERRORS)
    async def interrupt(session: Inside) -> None:
        """Stop speaking now, and forget all that is queued."""
        session.interrupt()

    def forget(peer: PeerOutlet) -> None:
        peers.pop(peer.id, None)

    async def connect(session: LiveSession, sdp: str, *, may_speak: bool) -> tuple[str, PeerOutlet]:
        mine = sum(peer.session is session for peer in peers.values())
        if max(session.num_outlets, mine) >= settings.max_viewers:
            raise CapacityError(f"the session has {settings.max_viewers} viewers already; close one")
        peer = PeerOutlet(session, ice_servers, house.metrics)
        peer.id = secrets.token_urlsafe(12)
        peers[peer.id] = peer
        peer.on_close = forget
        return await peer.answer(sdp, may_speak=may_speak), peer

    @app.post("/v1/sessions/{session_id}/offer", tags=["webrtc"], responses=_ERRORS)
    async def offer(request: Request, session: Inside, offer: Offer) -> Answer:
        """Connect by WebRTC: the avatar's tracks, the user's microphone, and a data channel that carries the session's events."""
        access.check_rate(request)
        return Answer(sdp=(await connect(session, offer.sdp, may_speak=True))[0])

    @app.post(
        "/v1/sessions/{session_id}/whep",
        status_code=201,
        tags=["webrtc"],
        responses={**_ERRORS, 201: {"content": {"application/sdp": {}}}, 415: {"model": Failure}},
        response_class=Response,
        openapi_extra={"requestBody": {"required": True, "content": {"application/sdp": {"schema": {"type": "string"}}}}},
    )
    async def whep(request: Request, session: Inside) -> Response:
        """Watch by WHEP: an offer in, an answer out, and the viewer's resource in `Location`."""
        access.check_rate(request)
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/sdp":
            return _failure(415, ErrorInfo(code="invalid_value", message="expected Content-Type: application/sdp"))
        body = (await request.body())[:100_000].decode("utf-8", errors="replace")
        sdp, peer = await connect(session, body, may_speak=False)
        location = f"/v1/sessions/{session.id}/whep/{peer.id}"
        headers = {"Location": location, "ETag": f'"{peer.id}"'}
        if ice_servers:
            headers["Link"] = ", ".join(map(ice_link, ice_servers))
        return Response(sdp, 201, headers, "application/sdp")

    @app.delete("/v1/sessions/{session_id}/whep/{viewer_id}", tags=["webrtc"], responses=_ERRORS)
    async def end_whep(session: Inside, viewer_id: str) -> Response:
        """Stop watching."""
        peer = peers.get(viewer_id)
        if peer is None or peer.session is not session:
            raise NotFoundError("there is no such viewer, or it is gone")
        await peer.close()
        return Response(status_code=200)

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket, session: str | None = None, avatar: str | None = None) -> None:
        """A session by WebSocket: `?session=ID` joins one, `?avatar=ID` opens one that ends with the socket."""
        opened = house.sessions.get(session or "")
        subprotocol = _subprotocol(socket)
        try:
            access.check(socket, None if opened is None else opened.secret)
            access.check_rate(socket)
            mine = opened is None and session is None
            if mine:
                opened = await house.open_session(avatar or "", None)
            elif opened is None or opened.num_outlets >= settings.max_viewers:
                house.session(session or "")
                raise CapacityError(f"the session has {settings.max_viewers} viewers already; close one")
        except VivavozError as error:
            await _refuse_socket(socket, error, subprotocol)
            return
        assert opened is not None
        try:
            await socket.accept(subprotocol)
            await serve_socket(socket, opened, house.metrics)
        finally:
            if mine:
                await asyncio.shield(house.end_session(opened.id, "its connection is gone"))

    add_page(app)
    return app


_CODES = {401: "unauthorized", 404: "not_found", 429: "rate_limited", 503: "full"}


def _failure(status: int, info: ErrorInfo, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(Failure(error=info).model_dump(), status, headers)


async def _refuse_socket(socket: WebSocket, error: VivavozError, subprotocol: str | None) -> None:
    """Tell why, then close: browsers do not show a refused handshake's status."""
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)
    if status == 401:
        await socket.close(1008, "unauthorized")  # before accepting: a plain 403
        return
    await socket.accept(subprotocol)
    await socket.send_json({"type": "error", "error": error_info(error).model_dump() | {"code": _CODES.get(status, "refused")}})
    await socket.close(1013 if status in (429, 503) else 1008, str(error)[:120])


def _subprotocol(socket: WebSocket) -> str | None:
    """Echo the first subprotocol that is not a token, as the standard asks."""
    offered = [name.strip() for name in socket.headers.get("sec-websocket-protocol", "").split(",") if name.strip()]
    return next((name for name in offered if not name.startswith(TOKEN_PROTOCOL)), None)
