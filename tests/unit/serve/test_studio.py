"""The studio's thread, with a tiny model."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest

from tests.models import lively_model, portrait, tiniest, tiniest_avatar
from vivavoz.serve.local import local_session
from vivavoz.serve.moments import Moment
from vivavoz.serve.protocol import ServerEvent
from vivavoz.serve.studio import Studio


class Nobody:
    """An outlet that looks away."""

    def show(self, moment: Moment) -> None:
        pass

    def tell(self, event: ServerEvent) -> None:
        pass

    def flush(self) -> None:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own elsewhere")
def test_its_thread_gives_way_to_those_that_send() -> None:
    studio = Studio(tiniest_avatar().model, max_streams=1)
    try:
        there = studio.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result(60)
    finally:
        studio.close()
    here = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert there == min(19, here + 5)


def test_an_interruption_gives_up_the_block_that_is_being_made() -> None:
    """The stream is interrupted from the event loop, in the middle of a block, which is then not decoded."""
    model = lively_model(tiniest())
    plain = model.runtime
    calls: list[str] = []

    async def run() -> None:
        loop, is_over = asyncio.get_running_loop(), asyncio.Event()

        async def interrupt() -> None:
            session.interrupt()

        def velocity(*arguments: Any) -> Any:
            calls.append("denoise")
            if calls.count("denoise") == 4:
                asyncio.run_coroutine_threadsafe(interrupt(), loop).result(60)
                calls.append("interrupted")
            return plain.velocity(*arguments)

        def decode(*arguments: Any) -> Any:
            calls.append("decode")
            if "interrupted" in calls:
                loop.call_soon_threadsafe(is_over.set)
            return plain.decode(*arguments)

        model.runtime = replace(plain, velocity=velocity, decode_first=decode, decode=decode)
        async with local_session(model.avatar(portrait(), crop="none")) as session:
            with session.attached(Nobody()):
                async with asyncio.timeout(60):
                    await is_over.wait()
            assert session.closed_reason is None

    asyncio.run(run())
    start = calls.index("interrupted")
    assert calls[:start] == ["denoise", "decode"] * 3 + ["denoise"]
    assert calls[start : start + 3] == ["interrupted", "denoise", "decode"]
