"""A live server with a tiny model, and clients, for tests."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import numpy as np
from fastapi import FastAPI
from PIL import Image

from tests.models import lively_model, portrait, tiniest
from vivavoz.engine.model import Model
from vivavoz.serve.app import make_app
from vivavoz.serve.background import app_in_background
from vivavoz.serve.settings import ServeSettings
from vivavoz.serve.sound import SOUND_RATE_HZ, Pcm
from vivavoz.serve.voices import Voice

TOKEN = "a token for tests"


def settings(**changes: object) -> ServeSettings:
    """A server that asks for `TOKEN`."""
    return replace(ServeSettings(token=TOKEN, port=0, max_requests_per_minute=10_000), **changes)  # type: ignore[arg-type]


def model_without_controls() -> Model:
    """As the published preset is."""
    preset = tiniest()
    return lively_model(replace(preset, generator=replace(preset.generator, controls=False)))


class Server:
    """A running server."""

    def __init__(self, app: FastAPI, port: int) -> None:
        self.app = app
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.house = app.state.house

    def client(self, token: str | None = TOKEN) -> httpx.Client:
        """A client that is let in."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def avatar(self) -> str:
        """A new avatar's name."""
        with self.client() as client:
            answer = client.post("/v1/avatars", files={"images": ("face.png", picture(), "image/png")}, data={"crop": "none"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def session(self, **order: object) -> dict[str, str]:
        """A new session: `id` and `client_secret`."""
        with self.client() as client:
            answer = client.post("/v1/sessions", json={"avatar_id": self.avatar(), **order})
        assert answer.status_code == 201, answer.text
        return {"id": answer.json()["session"]["id"], "client_secret": answer.json()["client_secret"]}


@contextmanager
def serving(wanted: ServeSettings | None = None, *, voice: Voice | None = None, model: Model | None = None) -> Iterator[Server]:
    """Run a server on a port of its own."""
    app = make_app(model or lively_model(tiniest()), wanted or settings(), voice=voice)
    with app_in_background(app, wanted or settings()) as port:
        yield Server(app, port)


def picture(seed: int = 0) -> bytes:
    """A PNG of nobody."""
    file = io.BytesIO()
    Image.fromarray(portrait(seed)).save(file, "PNG")
    return file.getvalue()


def tone(seconds: float, rate_hz: int = SOUND_RATE_HZ, hz: float = 220.0) -> Pcm:
    """A loud tone `(N,)`."""
    return (12_000 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.int16)
