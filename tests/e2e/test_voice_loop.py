"""examples/voice_loop.py against endpoints that are made up, and a real server."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import skimage.data
from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import Response, StreamingResponse

from tests.serving import TOKEN, serving, settings, tone
from vivavoz.media.image import write_image
from vivavoz.media.video import read_video
from vivavoz.serve.background import app_in_background
from vivavoz.timing import SAMPLE_RATE_HZ

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Endpoints:
    """Speaks like OpenAI; keeps what it was asked."""

    def __init__(self) -> None:
        self.said_s = 0.0
        self.messages: list[dict[str, str]] = []
        self.sentences: list[str] = []
        self.app = FastAPI()
        self.app.post("/v1/audio/transcriptions")(self.transcribe)
        self.app.post("/v1/chat/completions")(self.think)
        self.app.post("/v1/audio/speech")(self.speak)

    async def transcribe(self, file: UploadFile) -> dict[str, str]:
        with wave.open(io.BytesIO(await file.read())) as wav:
            self.said_s = wav.getnframes() / wav.getframerate()
        return {"text": "How are you?"}

    async def think(self, request: Request) -> StreamingResponse:
        self.messages = (await request.json())["messages"]

        def pieces() -> Iterator[str]:
            for text in ("I am ", "well. ", "And ", "you?"):
                yield f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def speak(self, request: Request) -> Response:
        self.sentences.append((await request.json())["input"])
        return Response(tone(0.2).tobytes(), media_type="audio/pcm")


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(monkeypatch: pytest.MonkeyPatch, module: ModuleType, *arguments: Any) -> argparse.Namespace:
    monkeypatch.setattr("sys.argv", ["voice_loop.py", *map(str, arguments)])
    return module.parse()


@pytest.mark.slow
def test_what_was_said_is_answered_by_the_avatar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints, loop = Endpoints(), example("voice_loop")
    write_image(tmp_path / "anna.png", skimage.data.astronaut())
    monkeypatch.setenv("VIVAVOZ_TOKEN", TOKEN)
    with serving() as server, app_in_background(endpoints.app, settings()) as port:
        given = options(
            monkeypatch,
            loop,
            tmp_path / "anna.png",
            *("--url", server.url, "--llm-url", f"http://127.0.0.1:{port}/v1"),
            *("--input", EXAMPLES / "speech.flac", "--output", tmp_path / "talk.mp4"),
        )
        messages = asyncio.run(asyncio.wait_for(loop.talk(given), 120))
    assert [one["role"] for one in messages] == ["system", "user", "assistant"]
    assert messages[1]["content"] == "How are you?"
    assert endpoints.messages[-1] == {"role": "user", "content": "How are you?"}
    assert endpoints.sentences == ["I am well.", "And you?"]
    assert 1 < endpoints.said_s < 12
    film = read_video(tmp_path / "talk.mp4")
    assert sum(1 for _ in film.frames()) > 25
    assert np.count_nonzero(np.abs(film.samples()) > 0.1) > 0.3 * SAMPLE_RATE_HZ  # 0.2 s for each sentence
