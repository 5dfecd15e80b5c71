"""Two replicas on Ray Serve, one of which is killed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.models import lively_model, tiniest
from tests.serving import TOKEN, picture, settings
from vivavoz.client import LiveAvatar, connect
from vivavoz.errors import ServeError
from vivavoz.serve.protocol import OutputFrame

ray = pytest.importorskip("ray")
serve = pytest.importorskip("ray.serve")
cluster = pytest.importorskip("vivavoz.serve.cluster")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")  # Ray's processes take it over
    monkeypatch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")  # a busy machine starts them slowly
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=80_000_000,
        include_dashboard=False,
        log_to_driver=False,
    )
    try:
        wanted = settings(port=port, ray=True, replicas=2, replica_cpus=0.5, max_sessions=20)
        cluster.start(wanted, lambda: lively_model(tiniest()))
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


async def next_frame(avatar: LiveAvatar) -> OutputFrame:
    async with asyncio.timeout(60):
        async for event in avatar:
            if isinstance(event, OutputFrame):
                return event
    raise AssertionError("no frame came")


def kill_replica(place: str) -> None:
    (name,) = [one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if one["name"].endswith(place)]
    ray.kill(ray.get_actor(name, namespace="serve"))


@pytest.mark.slow
def test_sessions_stay_with_their_replica_and_rejoin_at_once_when_it_is_killed(url: str) -> None:
    async def run() -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            made = await client.post("/v1/avatars", files={"images": picture()}, data={"crop": "none"})
            assert made.status_code == 201, made.text
            avatar_id = made.json()["id"]
            by_place: dict[str, str] = {}
            for _ in range(20):  # an avatar that one replica made is known to the other
                opened = await client.post("/v1/sessions", json={"avatar_id": avatar_id})
                assert opened.status_code == 201, opened.text
                id = opened.json()["session"]["id"]
                by_place.setdefault(id.rpartition(".")[2], id)
                if len(by_place) == 2:
                    break
            assert len(by_place) == 2
            for id in [*by_place.values()] * 4:
                assert (await client.get(f"/v1/sessions/{id}")).status_code == 200

            lost, kept = by_place.values()
            async with connect(url, session_id=kept, token=TOKEN) as there:
                with pytest.raises(ServeError, match="connect again"):
                    await watch_and_kill(url, lost)
                before = await next_frame(there)
                answer = await client.get(f"/v1/sessions/{lost}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
                async with connect(url, avatar_id=avatar_id, token=TOKEN) as again:
                    assert (await next_frame(again)).index == 0
                assert (await next_frame(there)).index > before.index

    asyncio.run(run())


async def watch_and_kill(url: str, session_id: str) -> None:
    async with asyncio.timeout(120), connect(url, session_id=session_id, token=TOKEN) as avatar:
        await next_frame(avatar)
        kill_replica(session_id.rpartition(".")[2])
        async for _ in avatar:
            pass
