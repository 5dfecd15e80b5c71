"""Where a session goes."""

from __future__ import annotations

from typing import Protocol

from vivavoz.serve.moments import Moment
from vivavoz.serve.protocol import ServerEvent


class Outlet(Protocol):
    """Where a session's moments and events go: a WebSocket, a peer connection. Its methods must not wait."""

    def show(self, moment: Moment) -> None:
        """40 ms of picture and sound."""

    def tell(self, event: ServerEvent) -> None:
        """Something happened."""

    def flush(self) -> None:
        """Drop what is buffered: the avatar was interrupted."""
