"""Where pictures are made: one thread that steps a pool of streams. The only place where running sessions meet the model.

Where rows are faster together, all sessions that want a block get theirs in one step; elsewhere who is pressed most is first.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from vivavoz.engine.avatar import Avatar
from vivavoz.engine.controls import StreamControls
from vivavoz.engine.model import Model
from vivavoz.engine.pool import PooledStream, StreamPool
from vivavoz.serve.moments import Order
from vivavoz.serve.sound import SOUND_RATE_HZ
from vivavoz.serve.timeline import Timeline

_NICER = 5
"""By how much the thread gives way."""

Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True, eq=False)
class Seat:
    """A session's place in the studio."""

    timeline: Timeline
    stream: PooledStream
    on_error: Callable[[Exception], None]
    """Called in the studio's thread when pictures cannot be made; the seat is then given up."""
    wishes: StreamControls
    """What the face shall do beside what follows from the conversation; may be replaced at any time."""


class Studio:
    """Owns the thread that a model runs in."""

    def __init__(self, model: Model, *, max_streams: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._pool = StreamPool(model, max_streams=max_streams)
        self._clock = clock
        self._seats: list[Seat] = []
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="vivavoz-studio", daemon=True)
        self._thread.start()

    @property
    def num_seats(self) -> int:
        """Sessions that pictures are made for."""
        return len(self._seats)

    def open(
        self,
        avatar: Avatar,
        timeline: Timeline,
        *,
        seed: int,
        block_latents: int,
        wishes: StreamControls,
        on_error: Callable[[Exception], None],
    ) -> Future[Seat]:
        """Begin a stream of `avatar` that makes what `timeline` orders."""

        def begin() -> Seat:
            sampling = replace(self._model.preset.sampling, block_latents=block_latents)
            stream = self._pool.open(avatar, seed=seed, sampling=sampling, sample_rate_hz=SOUND_RATE_HZ)
            seat = Seat(timeline=timeline, stream=stream, on_error=on_error, wishes=wishes)
            self._seats.append(seat)
            return seat

        return self.run(begin)

    def leave(self, seat: Seat) -> Future[None]:
        """End a stream."""

        def end() -> None:
            if seat in self._seats:
                self._seats.remove(seat)
            seat.stream.close()

        return self.run(end)

    def run(self, job: Callable[[], Result]) -> Future[Result]:
        """Have other work with the model done, between blocks."""
        future: Future[Result] = Future()
        with self._changed:
            self._jobs.append((future, job))
            self._changed.notify()
        return future

    def wake(self) -> None:
        """Some timeline wants something it did not want before."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """End the thread, after what it is doing; what waits is cancelled."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        for future, _ in self._jobs:
            future.cancel()
        self._pool.close()
        self._seats.clear()

    def _work(self) -> None:
        _give_way()
        while not self._is_closed:
            if self._jobs:
                _settle(*self._jobs.popleft())
            orders = self._orders()
            if orders:
                self._make(orders)
            else:
                self._rest()

    def _orders(self) -> list[tuple[Seat, Order]]:
        """The blocks to make now, the most wanted first; only as many as run together, so that a session that comes to be pressed
        meanwhile has its turn."""
        pressed = sorted(self._seats, key=lambda seat: seat.timeline.due_in_s(self._clock()))
        most = self._model.runtime.batch_size(max(1, len(pressed)))
        orders: list[tuple[Seat, Order]] = []
        for seat in pressed:
            order = seat.timeline.order(self._clock()) if len(orders) < most else None
            if order is not None:
                orders.append((seat, order))
        return orders

    def _make(self, orders: list[tuple[Seat, Order]]) -> None:
        try:
            for seat, order in orders:
                self._prepare(seat, order)
                seat.stream.on_pictures = partial(self._deliver, seat, order)
            self._pool.step()
            for seat, order in orders:
                seat.timeline.complete_order(order, self._clock())
        except Exception as error:  # of the step as a whole: nobody's picture is there
            for seat, _ in orders:
                self._seats.remove(seat)
                seat.stream.close()
                seat.on_error(error)

    def _deliver(self, seat: Seat, order: Order) -> None:
        seat.timeline.deliver(order, [frame.image for frame in seat.stream.take()], self._clock())

    def _prepare(self, seat: Seat, order: Order) -> None:
        if order.restarts:
            seat.stream.interrupt()
        seat.stream.use(num_steps=order.num_steps, block_latents=order.block_latents)
        seat.stream.skip(order.num_skipped)
        if self._model.preset.generator.controls:
            seat.stream.controls = replace(seat.wishes, state=order.state)
        seat.stream.push(order.sound)

    def _rest(self) -> None:
        with self._changed:
            if self._jobs or self._is_closed:
                return
            wanted_in_s = min((seat.timeline.wanted_in_s(self._clock()) for seat in self._seats), default=None)
            self._changed.wait(None if wanted_in_s is None else min(wanted_in_s, 1.0))


def _give_way() -> None:
    """Let this thread, and those it starts, run when others of the machine need not: late pictures are repeated, but sound and
    what is sent to clients must be on time. On Linux, where threads have priorities of their own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICER)


def _settle(future: Future[Any], job: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except BaseException as error:
        future.set_exception(error)
