"""How long a client is without pictures when the replica that its session is in is killed: a table.

    python benchmarks/rejoin.py --rounds 5
    python benchmarks/rejoin.py --model lite        # default: tiny, with random weights: what the machinery takes

Two replicas on a Ray cluster of this machine. In every round a client opens a session of an avatar, waits for a picture, has
the replica killed, and opens another session as soon as it is told.
"""

import argparse
import asyncio
import os
import socket
import time

import numpy as np
import ray
from ray import serve

from live import add_avatar
from vivavoz.client import LiveAvatar, connect
from vivavoz.engine.model import Model
from vivavoz.engine.weights import load
from vivavoz.errors import ServeError
from vivavoz.presets import tiny
from vivavoz.serve import cluster
from vivavoz.serve.protocol import OutputFrame
from vivavoz.serve.settings import ServeSettings

PATIENCE_S = 300


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how soon a session goes on after its replica was killed.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="tiny", help="tiny, a preset with weights, or a folder with weights")
    options = parser.parse_args()
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")  # a busy machine starts them slowly
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(address="local", num_cpus=2, object_store_memory=80_000_000, include_dashboard=False, log_to_driver=False)
    try:
        wanted = ServeSettings(no_auth=True, port=port, ray=True, replicas=2, replica_cpus=0.5, max_requests_per_minute=10_000)
        name = options.model
        cluster.start(wanted, lambda: Model.initialised(tiny()) if name == "tiny" else load(name))
        url = f"http://127.0.0.1:{port}"
        rounds = asyncio.run(measure(url, add_avatar(url, None), options.rounds))
    finally:
        serve.shutdown()
        ray.shutdown()
    print("| | p50, ms | most, ms |\n| --- | ---: | ---: |")
    for what, times_ms in zip(
        ("told of it after", "connected after", "first picture after"), zip(*rounds, strict=True), strict=True
    ):
        print(f"| {what} | {np.percentile(times_ms, 50):.0f} | {max(times_ms):.0f} |")


async def measure(url: str, avatar_id: str, num_rounds: int) -> list[tuple[float, float, float]]:
    """Of every round, in ms from killing the replica: until the client is told, is connected again, and has a picture."""
    rounds = []
    for _ in range(num_rounds):
        async with asyncio.timeout(PATIENCE_S):
            await both_run()
            async with connect(url, avatar_id=avatar_id) as avatar:
                await next_frame(avatar)
                kill(avatar.session.id)
                killed_s = time.perf_counter()
                try:
                    while True:
                        await next_frame(avatar)
                except ServeError:
                    told_s = time.perf_counter()
            async with connect(url, avatar_id=avatar_id) as again:
                connected_s = time.perf_counter()
                await next_frame(again)
                first_s = time.perf_counter()
        rounds.append((1000 * (told_s - killed_s), 1000 * (connected_s - killed_s), 1000 * (first_s - killed_s)))
    return rounds


async def both_run() -> None:
    """Wait until no replica is missing."""
    while serve.status().applications[cluster.NAME].deployments[cluster.NAME].replica_states.get("RUNNING") != 2:
        await asyncio.sleep(0.5)


async def next_frame(avatar: LiveAvatar) -> None:
    async for event in avatar:
        if isinstance(event, OutputFrame):
            return


def kill(session_id: str) -> None:
    place = session_id.rpartition(".")[2]
    (name,) = [one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if one["name"].endswith(place)]
    ray.kill(ray.get_actor(name, namespace="serve"))


if __name__ == "__main__":
    main()
