"""Sound from any file FFmpeg can read, as the model wants it.

N samples, C channels.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from vivavoz.audio.resample import MAX_AMPLITUDE, StreamingResampler
from vivavoz.errors import AudioError
from vivavoz.timing import SAMPLE_RATE_HZ

MIN_SAMPLES = SAMPLE_RATE_HZ // 100
"""Shortest sound worth reading: 10 ms."""

MAX_HOURS = 24
"""Longest sound read into memory (it would take 5.5 GB)."""

SILENCE_PEAK = 1 / 32768
"""Largest amplitude that still counts as silence: one step of 16-bit sound, which dither may leave."""

_BLOCKS_PER_SECOND = 4
_MAX_SAMPLES = MAX_HOURS * 3600 * SAMPLE_RATE_HZ


def read_audio(path: str | Path) -> NDArray[np.float32]:
    """Read the first sound track of a sound or video file.

    Any container, codec, sample rate, sample format and channel layout FFmpeg knows; channels are averaged, the first decoded
    sample is time 0, what exceeds full scale is clipped. Silence is returned like any other sound: see `is_silent`.

    Returns:
        (N,) float32, mono, 16 kHz, in [-1, 1], N >= 160.

    Raises:
        AudioError: no such file, empty, not a media file, no sound in it, broken, shorter than 10 ms, longer than 24 hours, with
            samples that are not finite or far beyond full scale, or at a rate `StreamingResampler` does not take.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise AudioError(f"{path} {what}; give a sound file or a video with sound")
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes); give a sound file or a video with sound")
    samples = _decode(path)
    if len(samples) < MIN_SAMPLES:
        length_ms, needed_ms = (1000 * num / SAMPLE_RATE_HZ for num in (len(samples), MIN_SAMPLES))
        raise AudioError(f"{path} holds {length_ms:.3g} ms of sound; at least {needed_ms:.0f} ms are needed")
    return samples


def is_silent(samples: NDArray[np.float32]) -> bool:
    """Whether samples (N,) float in [-1, 1] never leave digital silence (one step of 16-bit sound)."""
    return len(samples) == 0 or bool(max(samples.max(), -samples.min()) <= SILENCE_PEAK)


def _decode(path: Path) -> NDArray[np.float32]:
    # A bytearray grows where it lies, so a long file never needs a second copy.
    sound = bytearray()
    try:
        # The prefix and the whitelist keep a name with a colon, or a playlist, from opening anything but local files.
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            if not container.streams.audio:
                raise AudioError(f"{path} has no sound in it; give a sound file or a video with sound")
            _check_length(path, (container.duration or 0) * SAMPLE_RATE_HZ // av.time_base)
            for block in _resampled(path, container.decode(container.streams.audio[0])):
                sound += np.clip(block, -1.0, 1.0).tobytes()
                _check_length(path, len(sound) // 4)
    except (av.FFmpegError, ValueError, OverflowError, PermissionError) as error:
        raise AudioError(_describe(path, len(sound) // 4, error)) from error
    return np.frombuffer(sound, dtype=np.float32)


def _resampled(path: Path, frames: Iterator[av.AudioFrame]) -> Iterator[NDArray[np.float32]]:
    """Blocks (N,) at 16 kHz of a quarter of a second, so that the library's cost per call does not count."""
    resampler = None
    pending: list[NDArray[np.floating]] = []
    num_pending = num_seen = 0
    for frame in frames:
        if resampler is None:
            resampler = _resampler_for(path, frame)
        if (frame.sample_rate, frame.layout.nb_channels) != (resampler.rate_hz, resampler.num_channels):
            raise AudioError(f"{path} changes its sample rate or channels on the way; convert it to WAV first")
        samples = _float_samples(frame)
        if samples.size and not float(np.abs(samples).max()) <= MAX_AMPLITUDE:
            where = f"near {num_seen / resampler.rate_hz:.2f} s"
            raise AudioError(f"{path} has samples that are not finite, or far beyond full scale, {where}; export it again")
        pending.append(samples)
        num_pending += len(samples)
        num_seen += len(samples)
        if num_pending >= resampler.rate_hz // _BLOCKS_PER_SECOND:
            yield resampler.push(np.concatenate(pending))
            pending, num_pending = [], 0
    if resampler is not None:
        if pending:
            yield resampler.push(np.concatenate(pending))
        yield resampler.flush()


def _resampler_for(path: Path, frame: av.AudioFrame) -> StreamingResampler:
    try:
        return StreamingResampler(frame.sample_rate, frame.layout.nb_channels)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error


def _float_samples(frame: av.AudioFrame) -> NDArray[np.floating]:
    """(N, C) samples of a decoded frame, full scale at 1."""
    samples: NDArray = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    if np.issubdtype(samples.dtype, np.floating):
        return samples
    full_scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    offset = full_scale if np.issubdtype(samples.dtype, np.unsignedinteger) else 0.0
    return (samples - offset) / full_scale


def _check_length(path: Path, num_samples: int) -> None:
    if num_samples > _MAX_SAMPLES:
        hours = num_samples / SAMPLE_RATE_HZ / 3600
        raise AudioError(f"{path} lasts {hours:.1f} hours; at most {MAX_HOURS} can be read at once, so cut it")


def _describe(path: Path, num_samples: int, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
    if num_samples == 0:
        return f"{path} cannot be read as sound ({reason}); give a sound file or a video with sound"
    seconds = num_samples / SAMPLE_RATE_HZ
    return f"{path} is broken after {seconds:.2f} s ({reason}); export it again"
