"""Where the generator works while the decoder draws: a thread, and on a CUDA device a stream, of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext

import torch


class Overlap:
    """Runs one step beside its owner, who begins it, does something else, and waits for it.

    On a CUDA device, streams do not wait for one another, and memory that is let go of belongs at once to the next tensor of the
    stream it was taken on, whoever else still reads it. What keeps the two apart:

    - A step starts after all that the owner's stream was asked before `begin`; what that is asked after `wait` starts after the
      step. So only what happens between the two matters.
    - There, neither side writes or lets go of what the other uses: that is the owner's to see to.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vivavoz-overlap")
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._work: Future[None] | None = None

    def begin(self, step: Callable[[], None]) -> None:
        """Begin `step`, the only one under way."""
        asked = None if self._stream is None else torch.cuda.current_stream(self._device).record_event()
        self._work = self._thread.submit(self._run, step, asked)

    def wait(self) -> None:
        """Return when the step is over; on a CUDA device, when it is asked for. Its errors keep for `check`."""
        if self._work is not None:
            wait([self._work])
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def check(self) -> None:
        """`wait`, and raise what the step raised, once."""
        self.wait()
        work, self._work = self._work, None
        if work is not None:
            work.result()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False)

    def _run(self, step: Callable[[], None], asked: torch.cuda.Event | None) -> None:
        with torch.inference_mode(), nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            if asked is not None:
                torch.cuda.current_stream(self._device).wait_event(asked)
            step()
