"""Sound as callers have it (any rate, any channels, 16-bit or float, any chunk length) to mono 16 kHz, as a stream.

N samples, C channels, M samples at 16 kHz.
"""

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import ArrayLike, NDArray

from vivavoz.errors import AudioError
from vivavoz.timing import SAMPLE_RATE_HZ

MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 384_000
MAX_CHANNELS = 64

MAX_AMPLITUDE = 8.0
"""Float samples beyond this are surely 16-bit numbers that nobody scaled; a hot recording stays below it."""


class StreamingResampler:
    """Mixes down and resamples one stream of sound to mono 16 kHz.

    Any chunking of the input gives the same samples. Output sample `m` is the sound at `m / 16000` s. After `flush`,
    exactly `round(N * 16000 / rate_hz)` samples (halves up) have come out for `N` in, however long the stream: all counts are
    integers. Output runs about 1 ms behind the input, the reach of the filter; at 16 kHz samples pass through untouched.

    Args:
        rate_hz: sample rate of the input, 1000 to 384000.
        num_channels: channels of the input; they are averaged.

    Raises:
        AudioError: a rate or a number of channels out of range.
    """

    def __init__(self, rate_hz: int, num_channels: int = 1) -> None:
        if not _is_int(rate_hz) or not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise AudioError(f"sample rate is {rate_hz!r}; expected a whole number of Hz from {MIN_RATE_HZ} to {MAX_RATE_HZ}")
        if not _is_int(num_channels) or not 1 <= num_channels <= MAX_CHANNELS:
            raise AudioError(f"number of channels is {num_channels!r}; expected a whole number from 1 to {MAX_CHANNELS}")
        self.rate_hz = int(rate_hz)
        self.num_channels = int(num_channels)
        self._min_push = self.rate_hz // 1000
        self.reset()

    def reset(self) -> None:
        """Forget the stream and start another."""
        self._resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
        self._held = np.zeros(self._min_push, dtype=np.float32)
        self._num_held = 0
        self._num_in = 0
        self._num_out = 0
        self._ended = False

    def push(self, chunk: ArrayLike) -> NDArray[np.float32]:
        """Take the next samples of the stream and give all output they complete.

        Args:
            chunk: (N,) for one channel, or (N, C); any N >= 0; int16, or float in [-1, 1].

        Returns:
            (M,) float32, mono, 16 kHz; M may be 0.

        Raises:
            AudioError: a chunk of another shape or number format, samples that are not finite or far beyond [-1, 1], or a
                stream that has been flushed already.
        """
        if self._ended:
            raise AudioError("sound was pushed after the stream was flushed; reset the resampler to start a new stream")
        mono = self._mix_down(np.asarray(chunk))
        self._num_in += len(mono)
        if self.rate_hz == SAMPLE_RATE_HZ:
            self._num_out += len(mono)
            return mono
        # The library takes as long for one sample as for a hundred, so less than 1 ms waits for more.
        end = self._num_held + len(mono)
        if end < self._min_push:
            self._held[self._num_held : end] = mono
            self._num_held = end
            return np.zeros(0, dtype=np.float32)
        joined = np.concatenate([self._held[: self._num_held], mono])
        self._num_held = 0
        return self._count(self._resample(joined))

    def flush(self) -> NDArray[np.float32]:
        """End the stream and give its last samples, (M,) float32. A second flush gives none."""
        if self._ended or self.rate_hz == SAMPLE_RATE_HZ:
            self._ended = True
            return np.zeros(0, dtype=np.float32)
        self._ended = True
        due = resampled_length(self._num_in, self.rate_hz) - self._num_out
        rest = self._resample(self._held[: self._num_held])
        tail = _samples_of(self._resampler.resample(None)) if self._num_in else np.zeros(0, dtype=np.float32)
        out = np.concatenate([rest, tail])[:due]
        # The library rounds a stream's end its own way; a missing sample repeats the last.
        out = np.pad(out, (0, due - len(out)), mode="edge" if len(out) else "constant")
        return self._count(out)

    def _resample(self, mono: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feed the library a second at a time: its own buffers grow with what it gets at once."""
        pieces = []
        for start in range(0, len(mono), self.rate_hz):
            piece = np.ascontiguousarray(mono[None, start : start + self.rate_hz])
            frame = av.AudioFrame.from_ndarray(piece, format="flt", layout="mono")
            frame.sample_rate = self.rate_hz
            pieces.append(_samples_of(self._resampler.resample(frame)))
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)

    def _count(self, out: NDArray[np.float32]) -> NDArray[np.float32]:
        self._num_out += len(out)
        return out

    def _mix_down(self, chunk: NDArray) -> NDArray[np.float32]:
        if chunk.ndim == 1 and self.num_channels == 1:
            chunk = chunk[:, None]
        if chunk.ndim != 2 or chunk.shape[1] != self.num_channels:
            expected = "(N,) or (N, 1)" if self.num_channels == 1 else f"(N, {self.num_channels})"
            raise AudioError(f"a chunk of sound has shape {chunk.shape}; expected {expected}: samples first, then channels")
        is_int16 = chunk.dtype == np.int16
        if not is_int16 and not np.issubdtype(chunk.dtype, np.floating):
            raise AudioError(f"a chunk of sound has number format {chunk.dtype}; expected int16, or float in [-1, 1]")
        if chunk.size and not is_int16:
            peak = float(np.abs(chunk).max())
            if not np.isfinite(peak):
                raise AudioError("a chunk of sound has samples that are not finite numbers; send int16, or float in [-1, 1]")
            if peak > MAX_AMPLITUDE:
                raise AudioError(f"a chunk of float sound reaches {peak:.6g}; expected [-1, 1]: divide by 32768, or send int16")
        mono: NDArray[np.float64] = chunk.mean(axis=1, dtype=np.float64)
        return (mono / 32768 if is_int16 else mono).astype(np.float32)


def resampled_length(num_samples: int, rate_hz: int) -> int:
    """Samples at 16 kHz that stand for `num_samples` at `rate_hz`: `round(num_samples * 16000 / rate_hz)`, halves up."""
    return (2 * num_samples * SAMPLE_RATE_HZ + rate_hz) // (2 * rate_hz)


def _samples_of(frames: list[av.AudioFrame]) -> NDArray[np.float32]:
    blocks = [frame.to_ndarray().reshape(-1) for frame in frames]
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)


def _is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
