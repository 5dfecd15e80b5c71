"""Many live conversations at once: rows that one worker moves on together."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vivavoz.engine.avatar import Avatar
from vivavoz.engine.blocks import make_blocks
from vivavoz.engine.controls import Wishes
from vivavoz.engine.conversation import Conversation, Frame
from vivavoz.engine.model import Model
from vivavoz.engine.overlap import Overlap
from vivavoz.errors import CapacityError, ConfigError
from vivavoz.presets import SamplingConfig
from vivavoz.timing import SAMPLE_RATE_HZ


class PooledStream(Conversation):
    """A live conversation whose pictures `StreamPool.step` makes; `StreamPool.open` opens one.

    One thread may push, take, set and interrupt while another steps the pool.
    """

    on_pictures: Callable[[], None] | None = None
    """Called in the thread that steps the pool whenever pictures have become ready: the first of a block long before its last."""

    def push(self, chunk: ArrayLike) -> None:
        """Take in sound; nothing is computed. See `Stream.push` for what a chunk can be, and for errors."""
        self._take_in(chunk)

    def flush(self) -> None:
        """End the sound: the pictures still due become ready in the next steps, `ceil(samples at 16 kHz / 640)` in all."""
        self._end()

    def take(self) -> list[Frame]:
        """The pictures that are ready and were not taken before."""
        with self._lock:
            frames = list(self._ready)
            self._ready.clear()
        return frames

    def show(self, images: NDArray[np.uint8], utterance: int) -> None:
        """See `Conversation.show`, and `on_pictures`."""
        super().show(images, utterance)
        if self._ready and self.on_pictures is not None:
            self.on_pictures()

    @property
    def is_done(self) -> bool:
        """Whether the stream was flushed and all its pictures are made and taken, or it was closed."""
        with self._lock:
            is_over = self._num_frames_due is not None and self._num_frames >= self._num_frames_due
            return self._is_closed or (is_over and not self._ready)


class StreamPool:
    """Conversations that share a model, and its calls where that is faster.

        pool = StreamPool(model, max_streams=4)
        stream = pool.open(avatar)
        ...
        stream.push(chunk)      # one thread
        pool.step()             # another
        stream.take()           # the first again

    What a stream shows does not depend on its neighbours: on a CPU to the bit (rows run one after another there, since together
    they are no faster), elsewhere within rounding (1e-5 in float32). Joining, leaving and pausing are free.

    With `overlap` a step draws the next blocks and makes the ones after beside them (see `Avatar.stream`), for pools that have
    sound for many blocks. An interruption then ends no block that is being drawn, and a block that cannot be drawn is left out.
    """

    def __init__(self, model: Model, *, max_streams: int, overlap: bool = False) -> None:
        if max_streams < 1:
            raise ConfigError(f"max_streams is {max_streams}, expected at least 1")
        self.model = model
        self.max_streams = max_streams
        self._runtime = model.runtime
        self._overlap = Overlap(model.device) if overlap else None
        self._lock = threading.RLock()
        self._streams: list[PooledStream] = []

    def __len__(self) -> int:
        """Streams that are open."""
        return len(self._open_streams())

    def open(
        self,
        avatar: Avatar,
        *,
        seed: int = 0,
        sampling: SamplingConfig | None = None,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        num_channels: int = 1,
        controls: Wishes | None = None,
    ) -> PooledStream:
        """Open a conversation. `sampling`: None takes the preset's; for the others see `Avatar.stream`.

        Raises:
            CapacityError: `max_streams` are open.
            ConfigError, AudioError: a value out of range, or an avatar of another model.
        """
        if avatar.model is not self.model:
            raise ConfigError("got an avatar of another model than the pool's: make it with pool.model.avatar()")
        self._check_room()
        stream = PooledStream(
            self.model,
            avatar.references,
            sampling=sampling or self.model.preset.sampling,
            seed=seed,
            sample_rate_hz=sample_rate_hz,
            num_channels=num_channels,
            controls=controls,
        )
        with self._lock:
            self._check_room()
            self._streams.append(stream)
        return stream

    def step(self) -> int:
        """Make the next block of every stream that has sound enough; gives how many had. Call it from one thread.

        With 0, nothing will change until more sound is pushed. An error is that of the whole step; the streams stay open.
        """
        streams = self._open_streams()
        if self._runtime.batch_size(len(streams)) > 1:
            return make_blocks(self.model, self._runtime, streams, self._overlap)
        # A row's pictures need not wait for those of the rows after it.
        return sum(make_blocks(self.model, self._runtime, [stream], self._overlap) for stream in streams)

    def close(self) -> None:
        """Close all streams."""
        for stream in self._open_streams():
            stream.close()

    def _open_streams(self) -> list[PooledStream]:
        with self._lock:
            self._streams = [stream for stream in self._streams if not stream.is_closed]
            return list(self._streams)

    def _check_room(self) -> None:
        if len(self._open_streams()) >= self.max_streams:
            raise CapacityError(
                f"{self.max_streams} streams are open, which is all this pool takes: close one, or try again later"
            )
