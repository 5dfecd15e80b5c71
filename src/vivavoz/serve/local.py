"""Sessions in this process, without a server: for adapters, and for transports of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vivavoz.engine.avatar import Avatar
from vivavoz.serve.metrics import ServerMetrics
from vivavoz.serve.protocol import SessionControls
from vivavoz.serve.session import LiveSession
from vivavoz.serve.settings import ServeSettings
from vivavoz.serve.studio import Studio
from vivavoz.serve.voices import make_voice


@asynccontextmanager
async def local_session(
    avatar: Avatar,
    *,
    studio: Studio | None = None,
    settings: ServeSettings | None = None,
    controls: SessionControls | None = None,
    seed: int = 0,
) -> AsyncIterator[LiveSession]:
    """A live session of `avatar`, which ends with the context. Attach an outlet to it to see and hear something.

    Args:
        avatar: the person.
        studio: where pictures are made; None: a thread for this session alone. Sessions of one model should share one.
        settings: how; of a server's settings only those that concern a session count.
        controls: what the face shall do.
        seed: of the motion.

    Raises:
        ConfigError: controls that the preset does not have.
        CapacityError: the studio is full.
    """
    settings = settings or ServeSettings(no_auth=True)
    mine = None
    if studio is None:
        studio = mine = Studio(avatar.model, max_streams=1)
    try:
        session = await LiveSession.open(
            avatar,
            avatar_id="local",
            studio=studio,
            voice=make_voice(settings),
            settings=settings,
            metrics=ServerMetrics(),
            controls=controls,
            seed=seed,
        )
        try:
            yield session
        finally:
            await session.close()
    finally:
        if mine is not None:
            await asyncio.to_thread(mine.close)
