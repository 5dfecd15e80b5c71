"""A server in a thread of this process: for the terminal client, examples and tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from vivavoz.engine.model import Model
from vivavoz.errors import ServeError
from vivavoz.serve.app import make_app
from vivavoz.serve.settings import ServeSettings


@contextmanager
def in_background(model: Model, settings: ServeSettings) -> Iterator[int]:
    """Serve while it lasts; gives the port, a free one if `settings.port` is 0. Raises `ServeError` where it cannot listen."""
    with app_in_background(make_app(model, settings), settings) as port:
        yield port


@contextmanager
def app_in_background(app: FastAPI, settings: ServeSettings) -> Iterator[int]:
    """`in_background` for an app that is made."""
    server = uvicorn.Server(uvicorn_config(app, settings))
    thread = threading.Thread(target=server.run, name="vivavoz-serve", daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise ServeError(f"cannot listen on {settings.host}:{settings.port}; choose another port")
        time.sleep(0.01)
    try:
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


def uvicorn_config(app: FastAPI, settings: ServeSettings) -> uvicorn.Config:
    """How every server of this package runs."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        loop="asyncio",  # and not what else happens to be installed
        http="h11",
        ws="websockets-sansio",
        ws_max_size=8_000_000,
        timeout_graceful_shutdown=5,
        server_header=False,
    )
