"""Sound on its way to a listener: any rate in, 24 kHz mono 16-bit out, and what waits to be said.

`N` samples, mono int16.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import av
import numpy as np
from numpy.typing import NDArray

from vivavoz.errors import AudioError
from vivavoz.timing import FRAME_RATE

SOUND_RATE_HZ = 24_000
"""Sample rate of all sound that a session plays."""

SAMPLES_PER_MOMENT = SOUND_RATE_HZ // FRAME_RATE
"""Samples that one picture lasts: 960."""

Pcm = NDArray[np.int16]

_MIN_RATE_HZ, _MAX_RATE_HZ = 8_000, 192_000


def pcm_from_bytes(data: bytes) -> Pcm:
    """Little-endian 16-bit samples, `(N,)`. Raises `AudioError` for half a sample."""
    if len(data) % 2:
        raise AudioError(f"got {len(data)} bytes of PCM16, expected whole samples of two bytes each: send an even number")
    return np.frombuffer(data, "<i2").astype(np.int16)


def mono_from_bytes(data: bytes | memoryview, num_channels: int) -> Pcm:
    """Little-endian 16-bit samples of interleaved channels to their mean, `(N,)`."""
    samples = pcm_from_bytes(bytes(data)).reshape(-1, num_channels)
    return samples[:, 0] if num_channels == 1 else samples.mean(1).astype(np.int16)


class RateConverter:
    """One stream of mono sound from any rate to another; at the same rate samples pass through untouched."""

    def __init__(self, rate_hz: int, to_hz: int = SOUND_RATE_HZ) -> None:
        if not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
            raise AudioError(f"sample rate is {rate_hz}, expected {_MIN_RATE_HZ} to {_MAX_RATE_HZ} Hz: resample before sending")
        self.rate_hz = rate_hz
        self.to_hz = to_hz
        self._resampler = None if rate_hz == to_hz else av.AudioResampler(format="s16", layout="mono", rate=to_hz)

    def push(self, samples: Pcm) -> Pcm:
        """What the next samples `(N,)` complete, `(M,)`."""
        if self._resampler is None or not len(samples):
            return samples
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="s16", layout="mono")
        frame.sample_rate = self.rate_hz
        return _joined(self._resampler.resample(frame))

    def flush(self) -> Pcm:
        """The last samples; the converter can then take another sound."""
        if self._resampler is None:
            return np.zeros(0, np.int16)
        rest = _joined(self._resampler.resample(None))
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=self.to_hz)
        return rest


def _joined(frames: list[av.AudioFrame]) -> Pcm:
    blocks = [frame.to_ndarray().reshape(-1) for frame in frames]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


@dataclass(slots=True, kw_only=True, eq=False)
class Utterance:
    """Something to say, from its first queued sample to the last one played."""

    id: str
    waiting: deque[Pcm] = field(default_factory=deque)
    num_waiting: int = 0
    """Samples that are queued and not yet placed on the timeline."""
    is_complete: bool = False
    """Whether no more samples will come."""
    starts_at: int | None = None
    """Sample of the timeline at which it is first heard."""
    ends_at: int = 0
    """Sample of the timeline after the last one placed so far."""
    is_started: bool = False
    """Whether its first sample has been played."""
    num_played: int = 0
    """Samples that have been played."""


class SpeechQueue:
    """What a session has been given to say, in order.

    Speech that comes in slowly is not chopped: it starts when a cushion of it has come in, or its end has, or nothing more did
    for twice as long, and again so after it ran dry.
    """

    def __init__(self, cushion_s: float) -> None:
        self.utterances: list[Utterance] = []
        self._cushion_s = cushion_s
        self._flows = False
        self._pushed_at_s = float("-inf")

    @property
    def num_waiting(self) -> int:
        """Samples not yet placed."""
        return sum(utterance.num_waiting for utterance in self.utterances)

    def push(self, id: str, samples: Pcm, now_s: float) -> None:
        """Append to utterance `id`, which is the last one or new."""
        utterance = self._find(id)
        if len(samples):
            utterance.waiting.append(samples)
            utterance.num_waiting += len(samples)
            self._pushed_at_s = now_s

    def complete(self, id: str) -> None:
        """Nothing more comes for utterance `id`."""
        self._find(id).is_complete = True

    def take(self, num_samples: int, at: int, now_s: float) -> Pcm:
        """The next `num_samples`, to be heard from sample `at` of the timeline on, filled up with silence."""
        sound = np.zeros(num_samples, np.int16)
        filled = 0
        for utterance in self.utterances:
            if not self._may_start(utterance, now_s):
                break
            while utterance.num_waiting and filled < num_samples:
                piece = utterance.waiting.popleft()
                num_taken = min(len(piece), num_samples - filled)
                sound[filled : filled + num_taken] = piece[:num_taken]
                if num_taken < len(piece):
                    utterance.waiting.appendleft(piece[num_taken:])
                utterance.num_waiting -= num_taken
                if utterance.starts_at is None:
                    utterance.starts_at = at + filled
                filled += num_taken
                utterance.ends_at = at + filled
            self._flows = utterance.num_waiting > 0
            if filled == num_samples or not utterance.is_complete:
                break
        return sound

    def lasts(self, num_samples: int, now_s: float) -> bool:
        """Whether `take` would give so many samples without a gap in what is being said."""
        waiting = next((utterance for utterance in self.utterances if utterance.num_waiting), None)
        if waiting is None or waiting.is_complete or not self._may_start(waiting, now_s):
            return True
        return waiting.num_waiting >= num_samples

    def clear(self) -> list[Utterance]:
        """Forget everything; the utterances that were not over."""
        dropped, self.utterances = self.utterances, []
        self._flows = False
        return dropped

    def _may_start(self, utterance: Utterance, now_s: float) -> bool:
        has_cushion = utterance.num_waiting >= self._cushion_s * SOUND_RATE_HZ
        return self._flows or utterance.is_complete or has_cushion or now_s - self._pushed_at_s > 2 * self._cushion_s

    def _find(self, id: str) -> Utterance:
        for utterance in self.utterances:
            if utterance.id == id:
                return utterance
        self.utterances.append(Utterance(id=id))
        return self.utterances[-1]
