"""A queue of samples: chunks of any length in, pieces of any other length out."""

from collections import deque

import numpy as np
from numpy.typing import NDArray


class SampleQueue:
    """Samples `(N,)` float32, first in, first out. Costs the same however the chunks are cut."""

    def __init__(self) -> None:
        self._chunks: deque[NDArray[np.float32]] = deque()
        self._num_samples = 0

    def __len__(self) -> int:
        return self._num_samples

    def push(self, chunk: NDArray[np.float32]) -> None:
        """Append a chunk of any length."""
        if len(chunk):
            self._chunks.append(chunk)
            self._num_samples += len(chunk)

    def pop(self, num_samples: int) -> NDArray[np.float32] | None:
        """The first `num_samples` samples, or None (and nothing taken) while there are fewer."""
        if num_samples > self._num_samples:
            return None
        self._num_samples -= num_samples
        piece = np.empty(num_samples, dtype=np.float32)
        filled = 0
        while filled < num_samples:
            chunk = self._chunks.popleft()
            num_taken = min(len(chunk), num_samples - filled)
            piece[filled : filled + num_taken] = chunk[:num_taken]
            filled += num_taken
            if num_taken < len(chunk):
                self._chunks.appendleft(chunk[num_taken:])
        return piece
