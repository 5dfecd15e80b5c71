"""What a server holds: the model, avatars and sessions, with their limits and their ends."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from vivavoz.engine.avatar import Avatar
from vivavoz.engine.avatar_file import AVATAR_SUFFIX, is_avatar_file
from vivavoz.engine.model import Model
from vivavoz.errors import CapacityError, ImageError, NotFoundError, WeightsError
from vivavoz.media.crop import CropMode, crop_portrait
from vivavoz.media.image import Pixels, read_image
from vivavoz.serve.metrics import ServerMetrics
from vivavoz.serve.protocol import SessionControls
from vivavoz.serve.session import LiveSession
from vivavoz.serve.settings import ServeSettings
from vivavoz.serve.studio import Studio
from vivavoz.serve.uploads import check_picture
from vivavoz.serve.voices import Voice, make_voice

_ROUND_S = 1.0
_MAX_READING = 2
"""Uploads decoded at the same time: their pixels take memory."""


@dataclass(slots=True, kw_only=True, eq=False)
class KeptAvatar:
    """An avatar with its name."""

    id: str
    avatar: Avatar
    num_faces: tuple[int, ...]
    """Found in each portrait."""
    used_at_s: float


class Shelf(Protocol):
    """Where servers keep the pictures of avatars, so that each of them can show an avatar that another one made."""

    async def put(self, id: str, pictures: list[bytes], crop: CropMode) -> None:
        """Keep an avatar's pictures."""

    async def get(self, id: str) -> tuple[list[bytes], CropMode] | None:
        """An avatar's pictures, if they are there."""

    async def drop(self, id: str) -> None:
        """Forget an avatar."""


class House:
    """Everything of one server that is not a transport. Use it as an asynchronous context."""

    def __init__(
        self, model: Model, settings: ServeSettings, *, voice: Voice | None = None, place: str = "", shelf: Shelf | None = None
    ) -> None:
        """`place`: ends the names of sessions, to tell whose they are; `shelf`: of servers that share their avatars."""
        self.model = model
        self.place = place
        self.shelf = shelf
        self.settings = settings
        self.metrics = ServerMetrics()
        self.voice = voice or make_voice(settings)
        self.avatars: dict[str, KeptAvatar] = {}
        self.sessions: dict[str, LiveSession] = {}
        self.is_ready = False
        self._num_opening = 0
        self._reading = asyncio.Semaphore(_MAX_READING)

    async def __aenter__(self) -> House:
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        self.studio = Studio(self.model, max_streams=self.settings.max_sessions)
        self._rounds = asyncio.create_task(self._make_rounds())
        self.is_ready = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_ready = False
        self._rounds.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._rounds
        for session in list(self.sessions.values()):
            await self.end_session(session.id, "the server is shutting down")
        await asyncio.to_thread(self.studio.close)

    async def add_avatar(self, pictures: list[bytes], crop: CropMode = "auto") -> KeptAvatar:
        """Make an avatar from files of pictures.

        Raises:
            ImageError: a picture that cannot be read, is too large or has no face.
        """
        kept = await self._make_avatar(f"av_{secrets.token_urlsafe(12)}", pictures, crop)
        if self.shelf is not None:
            await self.shelf.put(kept.id, pictures, crop)
        return kept

    async def _make_avatar(self, id: str, pictures: list[bytes], crop: CropMode) -> KeptAvatar:
        most = self.model.preset.generator.max_references
        if not 1 <= len(pictures) <= most:
            raise ImageError(f"got {len(pictures)} pictures, expected 1 to {most}: leave some out or add one")
        if is_avatar_file(pictures[0]):
            avatar = await asyncio.wrap_future(self.studio.run(partial(self._read_avatar, *pictures)))
            num_faces = (1,) * len(avatar.crops)
        else:
            async with self._reading:
                images = await asyncio.to_thread(self._read, pictures)
            size = self.settings.size_px or self.model.preset.output_size
            crops = [await asyncio.to_thread(crop_portrait, image, crop, size) for image in images]
            avatar = await asyncio.wrap_future(
                self.studio.run(
                    lambda: self.model.avatar([portrait.image for portrait in crops], "none", self.settings.size_px or None)
                )
            )
            num_faces = tuple(portrait.num_faces for portrait in crops)
        kept = KeptAvatar(id=id, avatar=avatar, num_faces=num_faces, used_at_s=time.monotonic())
        self.avatars[kept.id] = kept
        while len(self.avatars) > self.settings.max_avatars:
            del self.avatars[min(self.avatars, key=lambda id: self.avatars[id].used_at_s)]
        self.metrics.avatars.set(len(self.avatars))
        return kept

    async def avatar(self, id: str) -> KeptAvatar:
        """Raises `NotFoundError`."""
        kept = self.avatars.get(id)
        if kept is None and self.shelf is not None and (found := await self.shelf.get(id)) is not None:
            kept = await self._make_avatar(id, *found)
        if kept is None:
            raise NotFoundError("there is no such avatar, or it has expired; make one with POST /v1/avatars")
        kept.used_at_s = time.monotonic()
        return kept

    async def drop_avatar(self, id: str) -> None:
        """Forget an avatar; sessions that show it go on. Raises `NotFoundError`."""
        await self.avatar(id)
        self.avatars.pop(id, None)
        if self.shelf is not None:
            await self.shelf.drop(id)
        self.metrics.avatars.set(len(self.avatars))

    async def open_session(self, avatar_id: str, controls: SessionControls | None, seed: int = 0) -> LiveSession:
        """Begin a session. Raises `NotFoundError`, `CapacityError`, or `ConfigError` for controls the preset has not."""
        kept = await self.avatar(avatar_id)
        if len(self.sessions) + self._num_opening >= self.settings.max_sessions:
            self.metrics.refused.labels("full").inc()
            raise CapacityError(f"all {self.settings.max_sessions} sessions are taken; try again later")
        self._num_opening += 1
        try:
            session = await LiveSession.open(
                kept.avatar,
                avatar_id=kept.id,
                studio=self.studio,
                voice=self.voice,
                settings=self.settings,
                metrics=self.metrics,
                controls=controls,
                seed=seed,
            )
        finally:
            self._num_opening -= 1
        session.id += self.place
        self.sessions[session.id] = session
        self.metrics.sessions.set(len(self.sessions))
        return session

    def session(self, id: str) -> LiveSession:
        """Raises `NotFoundError`."""
        session = self.sessions.get(id)
        if session is None:
            raise NotFoundError("there is no such session, or it is over; open one with POST /v1/sessions")
        return session

    async def end_session(self, id: str, reason: str = "closed") -> None:
        """End a session, if it is there."""
        session = self.sessions.pop(id, None)
        self.metrics.sessions.set(len(self.sessions))
        if session is not None:
            await session.close(reason)

    def _read(self, pictures: list[bytes]) -> list[Pixels]:
        """Decode files of pictures, in a private folder that is gone afterwards."""

        images = []
        for number, data in enumerate(pictures, 1):
            check_picture(data, number, self.settings.max_image_megapixels)
            with tempfile.TemporaryDirectory(prefix="vivavoz-") as folder:
                path = Path(folder) / "picture"
                path.write_bytes(data)
                try:
                    images.append(read_image(path))
                except ImageError as error:
                    raise ImageError(str(error).replace(str(path), f"picture {number}")) from error
        return images

    def _read_avatar(self, data: bytes, *others: bytes) -> Avatar:
        """An avatar from its file, in a private folder that is gone afterwards."""
        if others:
            raise ImageError("got an avatar's file and other pictures, expected it alone: leave them out")
        with tempfile.TemporaryDirectory(prefix="vivavoz-") as folder:
            path = Path(folder) / f"avatar{AVATAR_SUFFIX}"
            path.write_bytes(data)
            try:
                return self.model.avatar(path)
            except WeightsError as error:
                raise ImageError(str(error).replace(str(path), "the avatar's file")) from error

    async def _make_rounds(self) -> None:
        """End what has had its time."""
        while True:
            await asyncio.sleep(_ROUND_S)
            now_s, settings = time.monotonic(), self.settings
            for session in list(self.sessions.values()):
                if session.closed_reason is not None:
                    await self.end_session(session.id)
                elif now_s - session.opened_at_s > settings.max_session_s:
                    await self.end_session(session.id, f"sessions last at most {settings.max_session_s:.0f} s")
                elif not session.num_outlets and now_s - session.used_at_s > settings.idle_session_s:
                    await self.end_session(session.id, f"nobody watched for {settings.idle_session_s:.0f} s")
            for kept in list(self.avatars.values()):
                if now_s - kept.used_at_s > settings.avatar_ttl_s:
                    self.avatars.pop(kept.id, None)
            self.metrics.count_levels(session.timeline.level for session in self.sessions.values())
            self.metrics.avatars.set(len(self.avatars))
