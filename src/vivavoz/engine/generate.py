"""A portrait and a sound file to a video file: the same stream as live, pushed as fast as it goes."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vivavoz.audio.alignment import frames_of_samples
from vivavoz.audio.reading import is_silent, read_audio
from vivavoz.engine.avatar import Avatar, Portrait
from vivavoz.engine.controls import Wishes
from vivavoz.engine.conversation import Frame
from vivavoz.engine.model import Model
from vivavoz.engine.stream import Stream
from vivavoz.engine.weights import load
from vivavoz.errors import AudioError
from vivavoz.generator.config import BLOCK_SIZES
from vivavoz.media.crop import CropMode
from vivavoz.media.video import VideoWriter
from vivavoz.timing import FRAME_RATE, FRAMES_PER_LATENT, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

_BLOCK_FRAMES = max(BLOCK_SIZES) * FRAMES_PER_LATENT
_BLOCK_SAMPLES = _BLOCK_FRAMES * SAMPLES_PER_FRAME
"""Sound written at once."""

_PIECE_SAMPLES = 16 * _BLOCK_SAMPLES
"""Sound pushed at once, ten seconds: all but the last of its blocks have their next one beside them."""

_MOST_WAITING = 2 * _BLOCK_FRAMES
"""Pictures that may wait to be encoded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a video is."""

    num_frames: int
    """Pictures written so far."""
    total_frames: int
    """Pictures there will be."""
    elapsed_s: float
    """Time since the first sound was pushed."""

    @property
    def fps(self) -> float:
        """Pictures per second of computing, so far."""
        return self.num_frames / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def real_time_factor(self) -> float:
        """Computing time over playing time, so far; below 1 is faster than real time."""
        return self.elapsed_s * FRAME_RATE / self.num_frames if self.num_frames else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What became of a video."""

    num_frames: int
    seconds: float
    """Playing time."""
    fps: float
    """Pictures per second of computing and encoding."""
    real_time_factor: float
    """Computing time over playing time; below 1 is faster than real time."""
    first_picture_latency_s: float
    """Computing time from the first sound to the first picture, with all of the sound at hand."""


def generate(
    portraits: Portrait | Sequence[Portrait],
    speech: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | Model = "lite",
    seed: int = 0,
    num_steps: int | None = None,
    guidance_audio: float | None = None,
    guidance_reference: float | None = None,
    block_latents: int | None = None,
    controls: Wishes | None = None,
    overlap: bool = False,
    crop: CropMode = "auto",
    size: int | None = None,
    posed: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Make a talking-portrait video file.

    Args:
        portraits: 1 to 3 pictures of one person: paths, or `(H, W, 3)` uint8 RGB arrays.
        speech: a sound file, or a video with sound.
        output: the video to write: .mp4, .m4v, .mov or .mkv. It appears when it is complete, or not at all.
        model: a preset, a folder with weights, or a loaded model.
        seed, num_steps, guidance_audio, guidance_reference, block_latents, controls, overlap: see `Avatar.stream`.
        crop, size, posed: see `Model.avatar`.
        progress: called about once per block.

    Raises:
        VivavozError: pictures, sound, weights or options that cannot be used, or an output that cannot be written.
    """
    samples = read_speech(speech)
    if not isinstance(model, Model):
        model = load(model)
    return render(
        model.avatar(portraits, crop, size, posed=posed),
        samples,
        output,
        seed=seed,
        num_steps=num_steps,
        guidance_audio=guidance_audio,
        guidance_reference=guidance_reference,
        block_latents=block_latents,
        controls=controls,
        overlap=overlap,
        progress=progress,
    )


def read_speech(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Sound `(N,)` float32 at 16 kHz from a file. Raises `AudioError` as `read_audio` does, and for silence throughout."""
    samples = read_audio(Path(path))
    if is_silent(samples):
        raise AudioError(f"{Path(path)} is silent throughout; give a recording with speech in it")
    return samples


def render(
    avatar: Avatar,
    samples: NDArray[np.float32],
    output: str | os.PathLike[str],
    *,
    seed: int = 0,
    num_steps: int | None = None,
    guidance_audio: float | None = None,
    guidance_reference: float | None = None,
    block_latents: int | None = None,
    controls: Wishes | None = None,
    overlap: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """`generate` for an avatar and samples `(N,)` float32 at 16 kHz that are at hand; memory does not grow with N."""
    total_frames = frames_of_samples(len(samples))
    first_picture_latency_s = 0.0
    num_frames = 0
    with (
        avatar.stream(
            seed=seed,
            num_steps=num_steps,
            guidance_audio=guidance_audio,
            guidance_reference=guidance_reference,
            block_latents=block_latents,
            controls=controls,
            overlap=overlap,
        ) as stream,
        VideoWriter(output, (avatar.size, avatar.size), audio_rate_hz=SAMPLE_RATE_HZ) as writer,
        _Behind() as behind,
    ):
        started_s = time.perf_counter()
        for frame in _pictures(stream, samples):
            if num_frames == 0:
                first_picture_latency_s = time.perf_counter() - started_s
            if num_frames % _BLOCK_FRAMES == 0:
                sound_start = num_frames * SAMPLES_PER_FRAME
                behind.run(writer.write_samples, samples[sound_start : sound_start + _BLOCK_SAMPLES])
            behind.run(writer.write_frame, frame.image)
            num_frames += 1
            if progress is not None and (num_frames % _BLOCK_FRAMES == 0 or num_frames == total_frames):
                elapsed_s = time.perf_counter() - started_s
                progress(Progress(num_frames=num_frames, total_frames=total_frames, elapsed_s=elapsed_s))
    done = Progress(num_frames=num_frames, total_frames=total_frames, elapsed_s=time.perf_counter() - started_s)
    return Summary(
        num_frames=num_frames,
        seconds=num_frames / FRAME_RATE,
        fps=done.fps,
        real_time_factor=done.real_time_factor,
        first_picture_latency_s=first_picture_latency_s,
    )


class _Behind:
    """Runs steps one after the other on a thread of its own. What one of them raises comes out of a later call, or at the end.

    The video encoder lets Python go on meanwhile, so the next block is made while this one's pictures are encoded.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._waiting: deque[Future[None]] = deque()

    def run(self, step: Callable[..., None], *arguments: Any) -> None:
        """Run a step soon; waits while too many do."""
        self._waiting.append(self._thread.submit(step, *arguments))
        while len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=error is not None)
        if error is None:
            while self._waiting:
                self._waiting.popleft().result()


def _pictures(stream: Stream, samples: NDArray[np.float32]) -> Iterator[Frame]:
    """All that belong to the samples."""
    for start in range(0, len(samples), _PIECE_SAMPLES):
        yield from stream.push(samples[start : start + _PIECE_SAMPLES])
    yield from stream.flush()
