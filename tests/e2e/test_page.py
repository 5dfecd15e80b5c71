"""The page at `/` in Chromium, against the server as a process of its own, with the published weights.

`VIVAVOZ_SCREENSHOTS` names a folder for what it looked like; without, it is the test's own.
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import skimage.data
from PIL import Image

from tests.unit.data.espeak_library import needs_espeak
from vivavoz.audio.reading import read_audio
from vivavoz.engine.weights import load
from vivavoz.timing import SAMPLE_RATE_HZ

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SPEECH = Path(__file__).parents[2] / "examples" / "speech.flac"
TOKEN = "a token for the page"
PATIENCE_S = 240.0
LONG_TEXT = "Every morning many people walk along the river, and talk about the weather. " * 40
SHOWN_AGAIN = 0.15
"""Below this, in grey levels, a picture differs from the one before by its compression only."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
    needs_espeak,
]

# Looks at every new picture and listens to what the page plays; both from the outside.
PROBE = """() => {
  const video = document.querySelector("video");
  const canvas = new OffscreenCanvas(64, 64);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  const stream = video.srcObject ?? video.captureStream();
  const source = context.createMediaStreamSource(new MediaStream(stream.getAudioTracks()));
  source.connect(analyser);
  const wave = new Float32Array(analyser.fftSize);
  const probe = window.probe = { pictures: [], sounds: [], source };
  let before;
  const grey = (left, top, width, height) => {
    const { data } = pen.getImageData(left, top, width, height);
    return Array.from({ length: width * height }, (_, at) => (data[4 * at] + data[4 * at + 1] + data[4 * at + 2]) / 3);
  };
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const look = () => {
    pen.drawImage(video, 0, 0, 64, 64);
    const [face, mouth, forehead] = [grey(8, 8, 48, 48), grey(18, 40, 24, 16), grey(18, 12, 24, 10)];
    const average = mean(face);
    const spread = Math.sqrt(mean(face.map((value) => (value - average) ** 2)));
    const changed = (now, then) => mean(now.map((value, at) => Math.abs(value - then[at])));
    const [change, around] = before ? [changed(mouth, before.mouth), changed(forehead, before.forehead)] : [0, 0];
    probe.pictures.push({ state: document.querySelector("#state").dataset.state, spread, change, around });
    before = { mouth, forehead };
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  setInterval(() => {
    analyser.getFloatTimeDomainData(wave);
    const loudness = Math.sqrt(wave.reduce((sum, value) => sum + value * value, 0) / wave.length);
    probe.sounds.push({ at: performance.now(), loudness: video.muted ? 0 : loudness });
  }, 20);
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "vivavoz", "serve", "--port", str(port), "--size-px", "256", "--block-latents", "2"]
    with log.open("w") as output:
        environment = {**os.environ, "VIVAVOZ_TOKEN": TOKEN}
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or is_up(url))
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    microphone = tmp_path_factory.mktemp("sound") / "microphone.wav"
    with wave.open(str(microphone), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes((read_audio(SPEECH) * 32000).astype("<i2").tobytes())
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}",
                "--autoplay-policy=no-user-gesture-required",
                "--disable-features=WebRtcHideLocalIpsWithMdns",
                "--allow-loopback-in-peer-connection",
                "--no-sandbox",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(server: str, browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page; at the end nothing may have gone wrong in it, and no session may be left."""
    complaints: list[str] = []
    contexts = []

    def open_page(*, width: int = 1280, height: int = 800, dark: bool = False, script: str = "", token: bool = True) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", permissions=["microphone"]
        )
        contexts.append(context)
        context.set_default_timeout(1000 * PATIENCE_S)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if "Security Policy" in line.text else None)
        page.on("request", lambda one: None if one.url.startswith((server, "blob:")) else complaints.append(one.url))
        if token:
            script += f"if (location.protocol !== 'about:') sessionStorage.setItem('vivavoz-token', '{TOKEN}');"
        page.add_init_script(script)
        page.goto(server + "/")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            if page.is_visible("#end"):
                page.click("#end")
                page.wait_for_selector("[data-state=off]")
    until(lambda: "\nvivavoz_sessions 0.0" in httpx.get(f"{server}/metrics", timeout=60).text)
    for context in contexts:
        context.close()
    assert not complaints


def until(happened: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """Wait for something to be true; what it was."""
    end_s = time.monotonic() + seconds
    while not (result := happened()):
        assert time.monotonic() < end_s, "did not happen in time"
        time.sleep(0.05)
    return result


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def portrait() -> bytes:
    file = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()[:256, 96:352]).save(file, "PNG")
    return file.getvalue()


def upload(name: str, kind: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": kind, "buffer": data}


def drop(page: Any, *files: tuple[str, str, bytes]) -> None:
    """Drop files onto the page, as a mouse would."""
    page.evaluate(
        """(files) => {
          const dataTransfer = new DataTransfer();
          for (const [name, type, bytes] of files) dataTransfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
          const target = document.querySelector("#frame");
          target.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
        }""",
        [[name, kind, list(data)] for name, kind, data in files],
    )


def begin(page: Any, transport: str) -> None:
    page.set_input_files("#pictures", [upload("anna.png", "image/png", portrait())])
    page.select_option("#transport", transport)
    page.click("#start")
    until(lambda: state(page) == "idle" or page.inner_text("#error"))
    assert not page.inner_text("#error")


def state(page: Any) -> str:
    return str(page.get_attribute("#state", "data-state"))


def loudness(page: Any, since_ms: float = 0) -> Any:
    """How loud it was since then, `(N,)`, every 20 ms or so."""
    return np.array(page.evaluate("(since) => probe.sounds.filter(({ at }) => at > since).map((one) => one.loudness)", since_ms))


def mouth_motion(page: Any, wanted: str) -> float | None:
    """How much the region of the mouth changes in a state, in parts of what the forehead does: a moving head, or a slow machine
    that leaves pictures out, changes both. Of the 60 newest pictures; None while there are too few."""
    seen = page.evaluate("(wanted) => probe.pictures.filter(({ state }) => state === wanted)", wanted)
    assert all(one["spread"] > 15 for one in seen)  # a face, not one grey
    shown = [one for one in seen[-60:] if one["change"] > SHOWN_AGAIN]
    if len(seen) < 30:
        return None
    return sum(one["change"] for one in shown) / (sum(one["around"] for one in shown) + 0.05) if shown else 0.0


def now_ms(page: Any) -> float:
    return float(page.evaluate("performance.now()"))


def keep(page: Any, name: str, folder: Path) -> None:
    folder = Path(os.environ.get("VIVAVOZ_SCREENSHOTS", folder))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(folder / f"{name}.png"))


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
def test_a_conversation(opened: Any, tmp_path: Path, transport: str) -> None:
    """A sentence is seen and heard, the mouth rests afterwards, Escape stops a text, the microphone makes the avatar listen."""
    page = opened(dark=transport == "webrtc")
    begin(page, transport)
    page.evaluate(PROBE)

    until(lambda: mouth_motion(page, "idle") is not None)

    page.fill("#text", LONG_TEXT)
    page.press("#text", "Enter")
    until(lambda: state(page) == "speaking")
    until(lambda: loudness(page).max(initial=0) > 0.01)
    resting = mouth_motion(page, "idle") or 0.0
    moving = until(lambda: (found := mouth_motion(page, "speaking")) and found > max(1.3 * resting, 1.0) and found)
    keep(page, f"speaking-{transport}", tmp_path)

    page.keyboard.press("Escape")
    called_ms = now_ms(page)
    until(lambda: len(heard := loudness(page, called_ms)) > 20 and heard[-20:].max() < 0.003, seconds=20)
    until(lambda: state(page) == "idle")
    page.evaluate("probe.pictures.length = 0")
    until(lambda: (found := mouth_motion(page, "idle")) is not None and found < moving / 1.3)
    assert loudness(page, now_ms(page) - 400).max(initial=0) < 0.003

    page.click("#microphone")
    until(lambda: state(page) == "listening")
    assert page.get_attribute("#microphone", "aria-pressed") == "true"
    until(lambda: int(page.get_attribute("#level", "aria-valuenow")) > 30)
    keep(page, f"listening-{transport}", tmp_path)
    page.click("#microphone")
    until(lambda: state(page) == "idle")
    assert not page.inner_text("#error")
    assert transport in page.inner_text("#counts").lower()


def test_a_phone_a_token_and_what_can_go_wrong(opened: Any, server: str, tmp_path: Path) -> None:
    page = opened(width=360, height=740, token=False)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    keep(page, "phone-empty", tmp_path)
    drop(page, ("notes.txt", "text/plain", b"hello"))
    assert page.inner_text("#error") == "The file notes.txt is not a picture."
    drop(page, *((f"{index}.png", "image/png", b"no picture") for index in range(4)))
    assert "Three pictures" in page.inner_text("#error")
    assert page.locator("#thumbnails li").count() == 3
    for index in (3, 2):
        page.get_by_role("button", name=f"Remove picture {index}").click()
    assert page.get_by_role("img", name="Picture 1: 0.png").count() == 1

    page.get_by_role("button", name="Start").click()
    field = page.get_by_label("This server asks for a token")
    field.fill(TOKEN)
    field.press("Enter")
    until(lambda: "picture 1 is not a picture" in page.inner_text("#error").lower())
    assert page.inner_text("#error").endswith(".")
    page.get_by_role("button", name="Dismiss").click()
    page.get_by_role("button", name="Remove picture 1").click()
    drop(page, ("anna.png", "image/png", portrait()))

    told: list[dict[str, Any]] = []
    page.on(
        "websocket", lambda ws: ws.on("framereceived", lambda text: told.append(json.loads(text)) if isinstance(text, str) else 0)
    )
    page.get_by_label("Connection").select_option("websocket")
    page.get_by_role("button", name="Start").click()
    until(lambda: state(page) == "idle")
    page.get_by_label("Expression").select_option("happy")
    page.get_by_label("Eyes right").fill("20")
    page.get_by_label("Voice", exact=True).select_option("de")
    page.get_by_label("Kind of voice").select_option("f2")
    wanted = {"expression": "happy", "gaze_rad": [pytest.approx(math.radians(20)), 0], "voice": "de+f2"}

    def holds() -> bool:
        page.evaluate("0")  # lets events come in
        updates = [one["session"]["controls"] for one in told if one["type"] == "session.updated"]
        return any({name: one[name] for name in wanted} == wanted for one in updates)

    until(holds)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.set_input_files("#sound", [upload("speech.flac", "audio/flac", SPEECH.read_bytes())])
    until(lambda: state(page) == "speaking")
    keep(page, "phone-speaking", tmp_path)
    page.get_by_role("button", name="Interrupt").click()
    until(lambda: state(page) == "idle")
    assert not page.inner_text("#error")
    assert page.evaluate("localStorage.length") == 0


def test_where_webrtc_does_not_connect_the_websocket_does(opened: Any) -> None:
    page = opened(script="RTCPeerConnection.prototype.setRemoteDescription = () => new Promise(() => {});")
    begin(page, "auto")
    page.fill("#text", "Hello.")
    page.press("#text", "Enter")
    until(lambda: state(page) == "speaking")
    until(lambda: state(page) == "idle")
    until(lambda: "WebSocket" in page.inner_text("#counts"))


def test_an_avatars_file_shows_its_portrait_and_stands_alone(opened: Any, tmp_path: Path) -> None:
    avatar = tmp_path / "anna.safetensors"
    load("lite").avatar(skimage.data.astronaut()[:256, 96:352], crop="none", size=256).save(avatar)
    page = opened()
    drop(page, ("0.png", "image/png", portrait()))
    page.set_input_files("#pictures", avatar)
    until(lambda: page.locator("#thumbnails li").count() == 1 and page.get_by_role("img", name="Picture 1: anna").count() == 1)
    thumbnail = page.get_by_role("img", name="Picture 1: anna")
    until(lambda: thumbnail.evaluate("(image) => image.naturalWidth") == 256)
    page.select_option("#transport", "websocket")
    page.click("#start")
    until(lambda: state(page) == "idle" or page.inner_text("#error"))
    assert not page.inner_text("#error")
