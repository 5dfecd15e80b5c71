"""One live conversation: sound in, pictures out, block by block."""

from __future__ import annotations

from collections.abc import Iterator

from numpy.typing import ArrayLike

from vivavoz.engine.blocks import make_blocks
from vivavoz.engine.conversation import Conversation, Frame
from vivavoz.engine.overlap import Overlap


class Stream(Conversation):
    """A live conversation with an avatar; `Avatar.stream` opens one.

    Push sound of any chunk length, and take pictures out as soon as their block can be made:

        with avatar.stream() as stream:
            for chunk in microphone:
                for frame in stream.push(chunk): ...
            for frame in stream.flush(): ...

    How the sound is cut into chunks changes nothing in the pictures. A stream belongs to one thread at a time; streams do not
    disturb one another.
    """

    overlap: Overlap | None = None
    """Where the generator makes a block while the decoder draws the one before; None: they take turns."""

    def push(self, chunk: ArrayLike) -> Iterator[Frame]:
        """Take in sound, and give the pictures it completes.

        The sound is taken in at once; the pictures are made as the iterator is read. What is left unread comes first next time.

        Args:
            chunk: `(N,)`, or `(N, num_channels)`; any N >= 0; int16, or float in [-1, 1].

        Raises:
            AudioError: a chunk of another shape or number format, samples that are not finite or far beyond [-1, 1], or a stream
                that was flushed or closed.
        """
        self._take_in(chunk)
        return self._frames()

    def flush(self) -> Iterator[Frame]:
        """End the sound, and give the pictures still due: `ceil(samples at 16 kHz / 640)` in all, as if silence followed."""
        self._end()
        return self._frames()

    def close(self) -> None:
        """See `Conversation.close`."""
        super().close()
        if self.overlap is not None:
            self.overlap.close()

    def _frames(self) -> Iterator[Frame]:
        while not self._is_closed:
            if self._ready:
                yield self._ready.popleft()
            elif not make_blocks(self._model, self._runtime, [self], self.overlap):
                return
