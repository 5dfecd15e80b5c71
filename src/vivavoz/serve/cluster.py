"""A server on Ray Serve: replicas behind one address, each with a model and sessions of its own.

A session is in one replica only, and its name ends with that replica's, so the router knows where its requests belong.
Pictures of avatars are kept beside the replicas: when one dies, its sessions are gone, but their clients open new ones with the
same avatar.

Written against ray 2.60 (`RequestRouter` is alpha there). It needs the extra `ray-serve`.
"""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from vivavoz.engine.model import Model
from vivavoz.errors import ConfigError
from vivavoz.media.crop import CropMode
from vivavoz.serve.settings import ServeSettings

try:
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, RequestRouterConfig
    from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica
except ImportError as error:
    raise ConfigError(f"no {error.name} to serve with replicas; expected it: pip install 'vivavoz[ray-serve]'") from error

NAME = "vivavoz"
_MARK = "."
"""Between a session's name and its replica's."""


class StickyRouter(RequestRouter):
    """Sends what concerns a session to the replica that has it, and everything else to the one of two that has less to do."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See `RequestRouter`. A session of a replica that is gone goes to any: it will say that there is no such session."""
        place = None if pending_request is None else _place_of(pending_request)
        mine = [replica for replica in candidate_replicas if replica.replica_id.unique_id == place]
        return [mine or random.sample(candidate_replicas, min(2, len(candidate_replicas)))]


def _place_of(request: PendingRequest) -> str | None:
    """The replica that a request's session is in, from its path or query."""
    asked: Any = request.args[0]  # of HTTP and WebSockets always their scope, from Ray's own proxy
    scope = (pickle.loads(asked) if isinstance(asked, bytes) else asked).asgi_scope
    parts = scope["path"].split("/")
    session = parts[3] if parts[1:3] == ["v1", "sessions"] and len(parts) > 3 else ""
    session = session or parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session", [""])[0]
    return session.rpartition(_MARK)[2] or None


class PictureShelf:
    """The avatars' pictures, in an actor. They expire as avatars do."""

    def __init__(self, max_avatars: int, ttl_s: float) -> None:
        self._max_avatars = max_avatars
        self._ttl_s = ttl_s
        self._kept: dict[str, tuple[float, list[bytes], CropMode]] = {}

    def put(self, id: str, pictures: list[bytes], crop: CropMode) -> None:
        """See `Shelf`."""
        now_s = time.monotonic()
        self._kept = {name: kept for name, kept in self._kept.items() if kept[0] > now_s - self._ttl_s}
        self._kept[id] = now_s, pictures, crop
        while len(self._kept) > self._max_avatars:
            del self._kept[min(self._kept, key=lambda name: self._kept[name][0])]

    def get(self, id: str) -> tuple[list[bytes], CropMode] | None:
        """See `Shelf`."""
        used_at_s, pictures, crop = self._kept.get(id, (float("-inf"), [], "auto"))
        if used_at_s < time.monotonic() - self._ttl_s:
            return None
        self._kept[id] = time.monotonic(), pictures, crop
        return pictures, crop

    def drop(self, id: str) -> None:
        """See `Shelf`."""
        self._kept.pop(id, None)


class RemoteShelf:
    """A `PictureShelf` as replicas see it."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def put(self, id: str, pictures: list[bytes], crop: CropMode) -> None:
        """See `Shelf`."""
        await self._actor.put.remote(id, pictures, crop)

    async def get(self, id: str) -> tuple[list[bytes], CropMode] | None:
        """See `Shelf`."""
        return await self._actor.get.remote(id)

    async def drop(self, id: str) -> None:
        """See `Shelf`."""
        await self._actor.drop.remote(id)


def start(settings: ServeSettings, make_model: Callable[[], Model]) -> None:
    """Start the replicas on the Ray cluster of `RAY_ADDRESS`, or on one of this machine; returns when they are ready.

    Args:
        settings: of every replica; `host` and `port` are of the one address, `replicas` says how many.
        make_model: called once in every replica.
    """
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    shelf = ray.remote(num_cpus=0)(PictureShelf).remote(settings.max_avatars * settings.replicas, settings.avatar_ttl_s)

    def app() -> Any:
        """In a replica."""
        from vivavoz.serve.app import make_app

        place = _MARK + serve.get_replica_context().replica_id.unique_id
        return make_app(make_model(), settings, place=place, shelf=RemoteShelf(shelf))

    deployment = serve.deployment(
        serve.ingress(app)(),
        name=NAME,
        num_replicas=settings.replicas,
        max_ongoing_requests=100 + 10 * settings.max_sessions,
        ray_actor_options={"num_cpus": settings.replica_cpus, "num_gpus": settings.replica_gpus},
        request_router_config=RequestRouterConfig(request_router_class=StickyRouter),
        graceful_shutdown_timeout_s=5,
        health_check_period_s=2,
    )
    serve.start(http_options=HTTPOptions(host=settings.host, port=settings.port))
    serve.run(deployment.bind(), name=NAME, route_prefix="/")


def wait() -> None:
    """Until interrupted; then stop the replicas."""
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        serve.shutdown()
