"""The server as clients see it: HTTP, WebSocket, WebRTC, with a tiny model and real sockets."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import skimage.data
import websockets
from numpy.typing import NDArray

from tests.models import portrait
from tests.serving import TOKEN, Server, picture, serving, tone
from vivavoz.audio.reading import read_audio
from vivavoz.cli.main import main
from vivavoz.client import connect, picture_of, sound_of
from vivavoz.media.image import write_image
from vivavoz.media.video import read_video
from vivavoz.serve.protocol import (
    AvatarStateChanged,
    Metrics,
    OutputFlush,
    OutputFrame,
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
)
from vivavoz.serve.sound import SOUND_RATE_HZ, Pcm
from vivavoz.serve.voices import VoiceList
from vivavoz.timing import SAMPLE_RATE_HZ


class Beeper:
    """Speaks every text as a tone of a quarter second."""

    async def choices(self) -> VoiceList:
        return VoiceList(usual="low", voices=["low"], variants=[])

    async def speak(self, text: str, voice: str | None) -> AsyncIterator[Pcm]:
        yield tone(0.25)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(voice=Beeper()) as server:
        yield server


def test_a_text_is_spoken_with_pictures_and_sound_on_one_clock(server: Server) -> None:
    async def talk() -> list[Any]:
        events = []
        async with connect(server.url, avatar_id=server.avatar(), token=TOKEN) as avatar:
            await avatar.say("Hello.")
            async for event in avatar:
                events.append(event)
                if isinstance(event, ResponseDone):
                    break
        return events

    events = asyncio.run(talk())
    frames = [event for event in events if isinstance(event, OutputFrame)]
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert [frame.time_ms for frame in frames] == [40 * index for index in range(len(frames))]
    sound = np.concatenate([sound_of(frame) for frame in frames])
    heard = np.flatnonzero(sound)
    assert len(heard) == pytest.approx(0.25 * SOUND_RATE_HZ, rel=0.02)
    assert heard[-1] - heard[0] == pytest.approx(0.25 * SOUND_RATE_HZ, rel=0.02)  # no gap
    loud = {frame.index for frame in frames if np.abs(sound_of(frame)).max() > 1000}
    assert loud <= {frame.index for frame in frames if frame.state == "speaking" or frame.is_repeat}
    assert picture_of(frames[0]).shape == (64, 64, 3)
    done = next(event for event in events if isinstance(event, ResponseDone))
    assert (done.response.status, done.response.played_ms) == ("completed", 250)


def test_an_interruption_stops_the_sound_at_the_client_within_200_ms(server: Server) -> None:
    """On the clock of pictures and sound, which is that of real time; what a busy machine adds is not the server's."""

    async def talk() -> tuple[int, list[Any]]:
        events: list[Any] = []
        called_at: int | None = None
        async with connect(server.url, avatar_id=server.avatar(), token=TOKEN) as avatar:
            await avatar.begin_speech()
            await avatar.push_speech(tone(20))
            await avatar.end_speech()
            async for event in avatar:
                events.append(event)
                if isinstance(event, ResponseStarted):
                    await avatar.interrupt()
                    called_at = next(e.index for e in reversed(events) if isinstance(e, OutputFrame))
                if called_at is not None and isinstance(event, OutputFrame) and event.index > called_at + 25:
                    break
        assert called_at is not None
        return called_at, events

    called_at, events = asyncio.run(talk())
    flushed = next(event for event in events if isinstance(event, OutputFlush))
    after = [event for event in events if isinstance(event, OutputFrame) and event.time_ms >= flushed.time_ms + 40]
    assert len(after) > 3
    assert not any(sound_of(frame).any() for frame in after)
    assert flushed.time_ms - 40 * called_at < 200 or len(events) < 20
    done = [event for event in events if isinstance(event, ResponseDone)]
    assert [one.response.status for one in done] == ["cancelled"]
    assert done[0].response.played_ms < 5000


def test_mp4_plays_and_has_the_sound(server: Server) -> None:
    async def watch() -> tuple[str, bytes]:
        data, mime = b"", ""
        url = f"ws://127.0.0.1:{server.port}/v1/realtime?avatar={server.avatar()}"
        async with websockets.connect(url, additional_headers={"Authorization": f"Bearer {TOKEN}"}, max_size=None) as socket:
            await socket.send(json.dumps({"type": "response.create", "response": {"text": "Hello."}}))
            is_done = False
            while not is_done or data.count(b"moof") < 3:
                message = await asyncio.wait_for(socket.recv(), 60)
                if isinstance(message, bytes):
                    data += message
                else:
                    event = json.loads(message)
                    mime = event.get("mime", mime)
                    is_done = is_done or event["type"] == "response.done"
        return mime, data

    mime, data = asyncio.run(watch())
    assert mime.startswith("video/mp4; codecs=")
    assert data[4:8] == b"ftyp"
    assert data.count(b"moof") >= 2
    with av.open(io.BytesIO(data)) as container:
        times = [float(frame.time) for frame in container.decode(video=0) if frame.time is not None]
    assert times[0] == 0
    assert np.allclose(np.diff(times), 0.04)
    with av.open(io.BytesIO(data)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.profile.lower(), container.streams.audio[0].codec_context.name) == (
            "h264",
            "constrained baseline",
            "aac",
        )
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert np.abs(sound).max() > 0.1


def test_controls_are_taken_over_and_unknown_ones_refused(server: Server) -> None:
    session = server.session(controls={"expression": "happy"})
    with server.client() as client:
        path = f"/v1/sessions/{session['id']}"
        assert client.get(path).json()["session"]["controls"]["expression"] == "happy"
        changed = client.patch(path, json={"gaze_rad": [0.2, 0.0], "expression": None})
        assert changed.status_code == 200
        assert changed.json()["controls"]["gaze_rad"] == [0.2, 0.0]
        assert changed.json()["controls"]["expression"] is None
        refused = client.patch(path, json={"smile": 1})
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "smile")
        assert client.delete(path).status_code == 204
        assert client.get(path).status_code == 404


def test_a_session_takes_two_viewers_and_they_see_the_same_clock(server: Server) -> None:
    session = server.session()

    async def look(seconds: float) -> list[int]:
        indexes: list[int] = []
        async with connect(server.url, session_id=session["id"], token=session["client_secret"]) as avatar:
            end_s = time.monotonic() + seconds
            async for event in avatar:
                if isinstance(event, OutputFrame):
                    indexes.append(event.index)
                if time.monotonic() > end_s and len(indexes) > 5:
                    return indexes
        return indexes

    async def both() -> list[list[int]]:
        return await asyncio.gather(look(2), look(2))

    first, second = asyncio.run(both())
    assert set(first) & set(second)
    assert np.all(np.diff(first) == 1)
    with server.client() as client:
        assert client.get(f"/v1/sessions/{session['id']}").json()["metrics"]["num_shown"] >= len(first)
        client.delete(f"/v1/sessions/{session['id']}")


def test_webrtc_carries_picture_sound_and_events(server: Server) -> None:
    session = server.session()

    def has_all(seen: dict[str, Any]) -> bool:
        return "response.done" in seen["events"] and seen["video"] > 5 and seen["loudest"] > 1000

    seen = asyncio.run(_peer(server, session, until=has_all, text="Hello."))
    assert seen["events"][0] == "session.created"
    assert "response.started" in seen["events"]
    with server.client() as client:
        assert client.delete(f"/v1/sessions/{session['id']}").status_code == 204


def test_whep_answers_as_the_standard_says(server: Server) -> None:
    session = server.session()
    asyncio.run(_whep(server, session))
    assert not server.app.state.peers
    with server.client() as client:
        client.delete(f"/v1/sessions/{session['id']}")


async def _whep(server: Server, session: dict[str, str]) -> None:
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver("video", direction="recvonly")
    arrived = asyncio.Event()

    @peer.on("track")
    def track(track: Any) -> None:
        async def first() -> None:
            await track.recv()
            arrived.set()

        peer.reading = asyncio.ensure_future(first())

    await peer.setLocalDescription(await peer.createOffer())
    path = f"/v1/sessions/{session['id']}/whep"
    headers = {"Authorization": f"Bearer {session['client_secret']}", "Content-Type": "application/sdp"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
        answer = await client.post(path, content=peer.localDescription.sdp)
        assert answer.status_code == 201, answer.text
        assert answer.headers["content-type"].startswith("application/sdp")
        location = answer.headers["location"]
        assert location.startswith(path + "/")
        await peer.setRemoteDescription(RTCSessionDescription(sdp=answer.text, type="answer"))
        await asyncio.wait_for(arrived.wait(), 60)
        assert (await client.delete(location)).status_code == 200
        assert (await client.delete(location)).status_code == 404
        wrong = await client.post(path, content="v=0", headers={"Content-Type": "text/plain"})
        assert wrong.status_code == 415
    await peer.close()


async def _peer(server: Server, session: dict[str, str], *, until: Callable[[dict[str, Any]], bool], text: str) -> dict[str, Any]:
    """A WebRTC client; what it saw by the time `until` was true of it."""
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
    from aiortc.mediastreams import MediaStreamError

    seen: dict[str, Any] = {"video": 0, "audio": 0, "loudest": 0.0, "events": []}
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in ("video", "audio"):
        peer.addTransceiver(kind, direction="recvonly")
    channel = peer.createDataChannel("events")
    readers = []

    @channel.on("message")
    def told(message: str) -> None:
        seen["events"].append(json.loads(message)["type"])
        if len(seen["events"]) == 1:
            for _ in range(20):  # long enough for a receiver that has to wait for its first packets
                channel.send(json.dumps({"type": "response.create", "response": {"text": text}}))

    @peer.on("track")
    def track(track: Any) -> None:
        async def read() -> None:
            while True:
                try:
                    frame = await track.recv()
                except MediaStreamError:
                    return
                seen[track.kind] += 1
                if track.kind == "audio":
                    samples: NDArray = frame.to_ndarray()
                    seen["loudest"] = max(seen["loudest"], float(np.abs(samples.astype(np.int32)).max()))

        readers.append(asyncio.ensure_future(read()))

    await peer.setLocalDescription(await peer.createOffer())
    headers = {"Authorization": f"Bearer {session['client_secret']}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
        answer = await client.post(f"/v1/sessions/{session['id']}/offer", json={"sdp": peer.localDescription.sdp})
    assert answer.status_code == 200, answer.text
    await peer.setRemoteDescription(RTCSessionDescription(sdp=answer.json()["sdp"], type="answer"))
    async with asyncio.timeout(90):
        while not until(seen):
            await asyncio.sleep(0.05)
    await peer.close()
    await asyncio.gather(*readers)
    return seen


def test_the_users_voice_stops_the_avatar_and_makes_it_listen(server: Server) -> None:
    """A recorded sentence in the microphone, while the avatar speaks."""
    voice = (read_audio(Path(__file__).parents[2] / "examples" / "speech.flac")[: 2 * SAMPLE_RATE_HZ] * 32767).astype(np.int16)

    async def talk() -> list[Any]:
        events: list[Any] = []
        async with connect(server.url, avatar_id=server.avatar(), token=TOKEN, audio_rate_hz=16_000) as avatar:
            await avatar.begin_speech()
            await avatar.push_speech(tone(60, 16_000))
            await avatar.end_speech()
            async for event in avatar:
                events.append(event)
                if isinstance(event, ResponseStarted):
                    await avatar.hear(voice)
                if isinstance(event, AvatarStateChanged) and event.state == "listening":
                    await avatar.hear(np.zeros(SAMPLE_RATE_HZ, np.int16))
                if isinstance(event, SpeechStopped):
                    break
        return events

    events = asyncio.run(talk())
    kinds = [event.type for event in events]
    assert kinds.index("input_audio_buffer.speech_started") < kinds.index("output.flush") < kinds.index("response.done")
    started = next(event for event in events if isinstance(event, SpeechStarted))
    assert started.audio_start_ms < 1000
    assert next(event for event in events if isinstance(event, ResponseDone)).response.status == "cancelled"


def test_metrics_and_health(server: Server) -> None:
    with server.client(token=None) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").status_code == 200
        text = client.get("/metrics").text
        assert client.get("/openapi.json").json()["info"]["title"] == "vivavoz"
    assert "vivavoz_frames_shown_total" in text
    assert "vivavoz_block_seconds_bucket" in text


def test_up_to_three_pictures_make_an_avatar(server: Server) -> None:
    with server.client() as client:

        def post(number: int) -> httpx.Response:
            files = [("images", (f"{index}.png", picture(index), "image/png")) for index in range(number)]
            return client.post("/v1/avatars", files=files, data={"crop": "none"})

        three = post(3)
        assert three.status_code == 201
        assert len(three.json()["num_faces"]) == 3
        assert post(4).status_code == 400
        assert client.delete(f"/v1/avatars/{three.json()['id']}").status_code == 204
        assert client.delete(f"/v1/avatars/{three.json()['id']}").status_code == 404


def test_an_avatars_file_is_taken_like_a_picture_and_alone(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "anna.safetensors"
    model = server.house.model
    model.avatar([portrait(0), portrait(1)], crop="none", size=128).save(path)
    anna, face = (("images", (name, data)) for name, data in (("anna", path.read_bytes()), ("face.png", picture())))
    with server.client() as client:
        made = client.post("/v1/avatars", files=[anna])
        assert made.status_code == 201, made.text
        assert (made.json()["size_px"], made.json()["num_faces"]) == (128, [1, 1])
        opened = client.post("/v1/sessions", json={"avatar_id": made.json()["id"]})
        assert opened.status_code == 201
        for files, reason in (
            ([anna, face], "expected it alone"),
            ([("images", ("anna", path.read_bytes()[:-100]))], "the avatar's file cannot be read"),
        ):
            refused = client.post("/v1/avatars", files=files)
            assert refused.status_code == 400
            assert reason in refused.json()["error"]["message"]
            assert "/" not in refused.json()["error"]["message"]


def test_sound_is_taken_in_base64_at_the_rate_that_was_agreed(server: Server) -> None:
    async def talk() -> Pcm:
        sound = []
        async with connect(server.url, avatar_id=server.avatar(), token=TOKEN, audio_rate_hz=16_000) as avatar:
            await avatar._send(type="response.create", response={"audio": base64.b64encode(tone(0.5, 16_000).tobytes()).decode()})
            async for event in avatar:
                if isinstance(event, OutputFrame):
                    sound.append(sound_of(event))
                if isinstance(event, ResponseDone):
                    break
        return np.concatenate(sound)

    heard = np.flatnonzero(np.abs(asyncio.run(talk())) > 100)
    assert heard[-1] - heard[0] == pytest.approx(0.5 * SOUND_RATE_HZ, rel=0.03)


def test_talk_writes_what_the_avatar_says(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    portrait, video = tmp_path / "astronaut.png", tmp_path / "talk.mp4"
    write_image(portrait, skimage.data.astronaut())
    options = ["--url", server.url, "--token", TOKEN, "-o", str(video)]
    assert main(["talk", str(portrait), "--say", "Hello.", *options]) == 0
    assert "talk.mp4" in capsys.readouterr().out
    film = read_video(video)
    assert (film.width, film.height, float(film.frame_rate)) == (64, 64, 25.0)
    assert np.abs(film.samples()).max() > 0.1
    assert main(["talk", str(portrait), "--say", "Hello.", "--url", server.url, "--token", "wrong", "-o", str(video)]) == 2
    assert "token" in capsys.readouterr().err


def test_the_voices_are_told_to_who_may_open_sessions(server: Server) -> None:
    with server.client() as client:
        assert client.get("/v1/voices").json() == {"usual": "low", "voices": ["low"], "variants": []}
    with server.client(token=None) as client:
        assert client.get("/v1/voices").status_code == 401


def test_metrics_tell_what_sessions_give_up(server: Server) -> None:
    async def watch() -> str:
        async with connect(server.url, avatar_id=server.avatar(), token=TOKEN) as avatar:
            async with asyncio.timeout(60):
                async for event in avatar:
                    if isinstance(event, Metrics) and event.metrics.num_shown:
                        assert event.metrics.block_latents in (1, 2)
                        break
                async with httpx.AsyncClient(base_url=server.url) as client:
                    while "vivavoz_sessions_at_level{" not in (text := (await client.get("/metrics")).text):
                        await asyncio.sleep(0.1)
            return text

    assert 'vivavoz_sessions_at_level{level="' in asyncio.run(watch())
