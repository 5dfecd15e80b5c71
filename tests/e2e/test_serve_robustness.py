"""What clients must not be able to do to a server: tiny model, real sockets."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import websockets
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from PIL import Image

from tests.serving import TOKEN, Server, model_without_controls, picture, serving, settings, tone
from vivavoz.serve.access import TOKEN_PROTOCOL

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
SDP = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    wanted = settings(max_sessions=3, max_upload_mb=2.0, max_image_megapixels=4.0, idle_session_s=600.0)
    with serving(wanted, model=model_without_controls()) as server:
        yield server


def is_alive(server: Server) -> bool:
    with server.client() as client:
        return client.get("/healthz").status_code == 200


# Who comes in


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \xe4".encode("latin-1")},
        {"Cookie": f"token={TOKEN}"},
    ],
)
def test_without_the_token_nobody_comes_in(server: Server, headers: dict[str, Any]) -> None:
    with httpx.Client(base_url=server.url, headers=headers) as client:
        for method, path in (
            ("POST", "/v1/avatars"),
            ("POST", "/v1/sessions"),
            ("GET", "/v1/sessions/sess_x"),
            ("DELETE", "/v1/avatars/av_x"),
            ("POST", "/v1/sessions/sess_x/whep"),
        ):
            answer = client.request(method, path)
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in answer.text


def test_a_sessions_secret_opens_that_session_alone(server: Server) -> None:
    first, second = server.session(), server.session()
    with server.client(first["client_secret"]) as client:
        assert client.get(f"/v1/sessions/{first['id']}").status_code == 200
        assert client.get(f"/v1/sessions/{second['id']}").status_code == 401
        assert client.post("/v1/sessions", json={"avatar_id": "x"}).status_code == 401
    with server.client() as client:
        for session in (first, second):
            assert client.delete(f"/v1/sessions/{session['id']}").status_code == 204


def test_a_socket_needs_the_token_in_a_header_or_a_subprotocol(server: Server) -> None:
    session = server.session()
    url = f"ws://127.0.0.1:{server.port}/v1/realtime?session={session['id']}"

    async def connects(**how: Any) -> bool:
        try:
            async with websockets.connect(url, **how) as socket:
                return json.loads(await socket.recv())["type"] == "session.created"
        except websockets.InvalidStatus:
            return False

    async def check() -> None:
        assert not await connects()
        assert not await connects(additional_headers={"Authorization": "Bearer no"})
        assert not await connects(subprotocols=[f"{TOKEN_PROTOCOL}no"])
        assert await connects(additional_headers={"Authorization": f"Bearer {session['client_secret']}"})
        assert await connects(subprotocols=["realtime", TOKEN_PROTOCOL + session["client_secret"]])
        # A page of another origin stays out, whatever it knows.
        assert not await connects(additional_headers=HEADERS, origin="https://example.org")

    asyncio.run(check())
    with server.client() as client:
        client.delete(f"/v1/sessions/{session['id']}")


def test_without_tokens_only_this_machines_own_pages_are_served() -> None:
    with serving(settings(token=None, no_auth=True)) as open_server, open_server.client(token=None) as client:
        for path in ("/v1/sessions/sess_x",):
            assert client.get(path).status_code == 404
            assert client.get(path, headers={"Host": "evil.example"}).status_code == 401  # a name made to point here
            assert client.get(path, headers={"Origin": "http://evil.example"}).status_code == 401
            assert client.get(path, headers={"Origin": open_server.url}).status_code == 404


# How much


def test_a_full_server_says_when_to_come_back(server: Server) -> None:
    sessions = [server.session() for _ in range(3)]
    with server.client() as client:
        answer = client.post("/v1/sessions", json={"avatar_id": server.avatar()})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/readyz").status_code == 503
        for session in sessions:
            client.delete(f"/v1/sessions/{session['id']}")
        assert client.get("/readyz").status_code == 200


def test_too_many_requests_are_refused() -> None:
    with serving(settings(max_requests_per_minute=3)) as slow, slow.client() as client:
        statuses = [client.post("/v1/sessions", json={"avatar_id": "x"}).status_code for _ in range(5)]
    assert statuses == [404, 404, 404, 429, 429]


def test_a_session_that_nobody_watches_ends_and_so_does_a_long_one() -> None:
    with serving(settings(idle_session_s=0.1)) as brief:
        session = brief.session()
        with brief.client() as client:
            deadline_s = time.monotonic() + 60
            while client.get(f"/v1/sessions/{session['id']}").status_code == 200:
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
        assert brief.house.studio.num_seats == 0


def test_a_body_that_is_too_large_is_refused_with_and_without_a_length(server: Server) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    with server.client() as client:
        for content in (b"x" * 3_000_000, pieces()):
            answer = client.post("/v1/sessions", content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code == 413
        assert client.post("/v1/sessions", content=b"{}", headers={"Content-Length": "2"}).status_code == 422
    assert is_alive(server)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises more than its bytes hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def blank(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a picture"),
        (b"GIF89a not really", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "not a picture"),
        (bomb(60_000, 60_000), "megapixels|not a picture"),
        (bomb(5_000, 5_000), "megapixels"),
        (bomb(1_000, 1_000), "damaged"),
        (picture()[:200], "damaged"),
        (blank((2_100, 2_000)), "megapixels"),  # real, and a few kilobytes
        (blank((10, 10)), "at least 64"),
    ],
    ids=["empty", "gif", "svg", "eps", "huge", "large", "no pixels", "cut short", "blank and large", "too small"],
)
def test_pictures_that_are_none_or_bombs_are_refused(server: Server, data: bytes, message: str) -> None:
    with server.client() as client:
        answer = client.post("/v1/avatars", files={"images": ("a.png", data, "image/png")}, data={"crop": "none"})
    assert answer.status_code in (400, 422), answer.text
    assert len(answer.json()["error"]["message"]) < 300
    if answer.status_code == 400:
        assert re.search(message, answer.json()["error"]["message"])
        assert tempfile.gettempdir() not in answer.text


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\x00b.png", "..\\..\\x", "x" * 5000, "", "%2e%2e%2fx"])
def test_a_files_name_leads_nowhere(server: Server, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(Path(tempfile.gettempdir()).glob("vivavoz-*"))
    with server.client() as client:
        answer = client.post("/v1/avatars", files={"images": (name, picture(), "image/png")}, data={"crop": "none"})
    assert answer.status_code in (201, 400, 422)
    assert list(tmp_path.iterdir()) == []
    assert set(Path(tempfile.gettempdir()).glob("vivavoz-*")) == before


@pytest.mark.parametrize(
    "path",
    ["/v1/sessions/..%2f..%2fetc%2fpasswd", "/v1/sessions/%00", "/v1/sessions/" + "a" * 4000, "/v1/avatars/av_x/..", "//v1/x"],
)
def test_paths_lead_nowhere(server: Server, path: str) -> None:
    with server.client() as client:
        assert client.get(path).status_code in (401, 404, 405)


# What cannot be understood


@pytest.mark.parametrize(
    "sdp",
    [
        "",
        "v=0",
        SDP,
        SDP + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n",
        SDP + "m=video x UDP/TLS/RTP/SAVPF 96\r\na=recvonly\r\n",
        SDP + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=recvonly\r\n",
        SDP + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=recvonly\r\na=rtpmap:96 VP8/90000\r\na=mid:0\r\n",
        SDP + "a=group:BUNDLE 0 1 2 3\r\n" * 500,
        "\x00\xff" * 100,
    ],
    ids=["empty", "version", "no media", "no direction", "no port", "data only", "no transport", "many groups", "noise"],
)
def test_a_malformed_offer_is_refused_and_leaves_nothing(server: Server, sdp: str) -> None:
    session = server.session()
    with server.client() as client:
        for answer in (
            client.post(f"/v1/sessions/{session['id']}/offer", json={"sdp": sdp}),
            client.post(f"/v1/sessions/{session['id']}/whep", content=sdp.encode(), headers={"Content-Type": "application/sdp"}),
        ):
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"] == "sdp"
        client.delete(f"/v1/sessions/{session['id']}")
    assert not server.app.state.peers


def test_malformed_events_are_answered_and_the_session_goes_on(server: Server) -> None:
    loud = base64.b64encode(tone(31, 24_000).tobytes()).decode()
    wrong: list[tuple[str | bytes, str]] = [
        ("", "invalid_event"),
        ("{", "invalid_event"),
        ("[" * 10_000, "invalid_event"),
        (b"\xff\x00", "invalid_event"),
        ('{"type": "session.update", "session": {"x": 1}}', "invalid_event"),
        ('{"type": "input_audio_buffer.append", "audio": "###"}', "invalid_event"),
        ('{"type": "input_audio_buffer.append", "audio": "QQ=="}', "invalid_event"),
        ('{"type": "session.update", "session": {"expression": "happy"}}', "invalid_value"),  # this model has no controls
        ('{"type": "response.create", "response": {"text": "a", "audio": "AAAA"}}', "invalid_event"),
        (json.dumps({"type": "input_audio_buffer.append", "audio": loud}), "refused"),
    ]

    async def answer_to(socket: websockets.ClientConnection, text: str | bytes, kind: str) -> dict[str, Any]:
        await socket.send(text)
        async with asyncio.timeout(60):
            while True:
                message = json.loads(await socket.recv())
                if message["type"] == kind:
                    return message

    async def check() -> None:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime?avatar={server.avatar()}"
        async with websockets.connect(url, additional_headers=HEADERS, max_size=None) as socket:
            await answer_to(socket, '{"type": "session.update", "session": {"output": {"type": "none"}}}', "session.updated")
            for text, code in wrong:
                assert (await answer_to(socket, text, "error"))["error"]["code"] == code
            await answer_to(socket, '{"type": "input_audio_buffer.clear"}', "input_audio_buffer.cleared")

    asyncio.run(check())


# Who leaves


def test_fifty_abrupt_disconnects_leave_nothing(server: Server) -> None:
    """Sockets cut off in the midst of things, without a goodbye."""
    avatar = server.avatar()

    async def cut_off() -> None:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime?avatar={avatar}"
        for number in range(50):
            socket = await websockets.connect(url, additional_headers=HEADERS, max_size=None)
            if number % 3:
                await socket.send('{"type": "response.create"}')
            if number % 5 == 0:
                await socket.recv()
            socket.transport.abort()
            while len(server.house.sessions) >= 3:
                await asyncio.sleep(0.01)

    files = set(Path(tempfile.gettempdir()).glob("vivavoz-*"))
    asyncio.run(cut_off())
    deadline_s = time.monotonic() + 60
    while (server.house.sessions or server.house.studio.num_seats) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not server.house.sessions
    assert server.house.studio.num_seats == 0
    assert _num_tasks(server) <= 6
    assert set(Path(tempfile.gettempdir()).glob("vivavoz-*")) == files
    assert len([thread for thread in threading.enumerate() if thread.name == "vivavoz-studio"]) == 1


def _num_tasks(server: Server) -> int:
    """Tasks of the server's event loop."""
    loop = server.house._rounds.get_loop()
    return len(asyncio.run_coroutine_threadsafe(_count(), loop).result(30))


async def _count() -> set[Any]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def test_a_reader_that_does_not_read_costs_bounded_memory_and_no_neighbour(server: Server) -> None:
    """Its moments are dropped; the session's clock, and others, go on."""
    session = server.session()

    async def check() -> None:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime?session={session['id']}"
        async with websockets.connect(url, additional_headers=HEADERS, max_size=None, max_queue=1) as lazy:
            await lazy.send('{"type": "session.update", "session": {"output": {"type": "jpeg", "jpeg_quality": 95}}}')
            lazy.transport.pause_reading()
            async with websockets.connect(url, additional_headers=HEADERS, max_size=None) as eager:
                num_frames = 0
                while num_frames < 80:
                    message = json.loads(await asyncio.wait_for(eager.recv(), 60))
                    num_frames += message["type"] == "output.frame"
            outlets = server.house.sessions[session["id"]]._outlets
            assert all(outlet._num_moments <= 50 and len(outlet._waiting) <= 1_050 for outlet in outlets)
            lazy.transport.abort()

    asyncio.run(check())
    with server.client() as client:
        assert client.delete(f"/v1/sessions/{session['id']}").status_code == 204


# The whole of the interface, at random


@schemathesis.serializer("application/sdp")
def as_text(_: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def test_nothing_that_fits_or_breaks_the_schema_breaks_the_server(server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=HEADERS)

    @hypothesis_settings(
        max_examples=3,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case) -> None:
        response = case.call(headers=HEADERS)
        assert response.status_code < 500 or response.status_code == 503, response.text
        if response.status_code >= 400 and response.headers.get("content-type", [""])[0].startswith("application/json"):
            assert set(response.json()) & {"error", "detail"}

    num_operations = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        num_operations += 1
        given(case=operation.as_strategy())(check)()
    assert num_operations >= 12
    assert is_alive(server)
