"""Video files with sound: written frame by frame and whole or not at all; read back; laid out as a contact sheet.

`H W 3` frames are uint8 RGB; `N` samples are mono float32 in [-1, 1]; times are seconds as `Fraction`.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import cv2.typing
import numpy as np
from av.audio.stream import AudioStream
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vivavoz.errors import DataError, OutputError
from vivavoz.media.image import Pixels
from vivavoz.media.output import whole_file, writing
from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""FFmpeg's name of the container for every suffix that can be written."""

ENCODED_RATE_HZ = 48_000
"""Sample rate in the file. AAC's frame of 1024 samples then lasts half a picture, so sound can end with the picture."""


class VideoWriter:
    """Writes H.264 and AAC to an MP4, MOV or Matroska file as frames and samples come in, in constant memory.

    Sound and picture start together; at `close` the sound is cut or filled with silence to the length of the picture. The
    file appears under its name when it is complete; leaving the `with` block by an exception (Ctrl-C too) leaves nothing.

        with VideoWriter("talk.mp4", (512, 512)) as writer:
            for image, samples in stream:
                writer.write_frame(image)
                writer.write_samples(samples)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: tuple[int, int],
        *,
        frame_rate: int | Fraction = FRAME_RATE,
        audio_rate_hz: int | None = SAMPLE_RATE_HZ,
    ) -> None:
        """Open the file.

        Args:
            path: target, ending in .mp4, .m4v, .mov or .mkv.
            size: width and height of the frames in pixels, both even.
            frame_rate: frames per second.
            audio_rate_hz: rate of the samples that will be written, or None for a silent film.

        Raises:
            OutputError: the path cannot be written, has another suffix, or the size is odd.
        """
        self.path = Path(path)
        self.size = size
        self.num_frames = 0
        self._closed = False
        self.num_samples = 0
        self._frame_rate = Fraction(frame_rate)
        self._audio_rate_hz = audio_rate_hz
        if min(size) < 2 or size[0] % 2 or size[1] % 2:
            raise OutputError(f"cannot write {path}: {size[0]}x{size[1]} frames; H.264 needs an even width and height")
        self._waiting = av.AudioFifo()
        self._resampler = av.AudioResampler("fltp", "mono", ENCODED_RATE_HZ)
        with ExitStack() as stack:
            temporary = stack.enter_context(whole_file(path, CONTAINERS))
            with writing(path):
                self._file = stack.enter_context(temporary.open("wb"))
            self._container = av.open(self._file, "w", format=CONTAINERS[self.path.suffix.lower()])
            self._video = self._add_video()
            self._audio = None if audio_rate_hz is None else self._add_audio()
            self._on_exit = stack.pop_all()

    def _add_video(self) -> VideoStream:
        # No B frames: presentation order is decoding order, so the first picture is at 0 for every player.
        options = {"preset": "veryfast", "crf": "18", "bf": "0"}
        stream = self._container.add_stream("libx264", rate=self._frame_rate, options=options)
        stream.width, stream.height = self.size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return stream

    def _add_audio(self) -> AudioStream:
        stream = self._container.add_stream("aac", rate=ENCODED_RATE_HZ, layout="mono")
        stream.bit_rate = 96_000
        return stream

    def write_frame(self, image: Pixels) -> None:
        """Append one `(H, W, 3)` uint8 RGB frame.

        Raises:
            OutputError: another shape or type than the file's, or the disk is full.
        """
        width, height = self.size
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise OutputError(
                f"cannot write to {self.path}: got a frame of shape {image.shape} and type {image.dtype}, "
                f"expected {(height, width, 3)} uint8"
            )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        frame.pts = self.num_frames
        frame.time_base = 1 / self._frame_rate
        with writing(self.path):
            self._container.mux(self._video.encode(frame))
            self.num_frames += 1
            self._encode_waiting()

    def write_samples(self, samples: NDArray[np.float32]) -> None:
        """Append `(N,)` mono float32 samples in [-1, 1], any N, at the rate given on opening.

        Raises:
            OutputError: the file was opened without sound, or the disk is full.
        """
        if self._audio is None or self._audio_rate_hz is None:
            raise OutputError(f"cannot write sound to {self.path}: it was opened with audio_rate_hz=None; give a rate")
        if len(samples) == 0:
            return
        clipped = np.clip(np.nan_to_num(samples), -1.0, 1.0).astype(np.float32)
        self._queue(clipped, self._audio_rate_hz)
        with writing(self.path):
            self._encode_waiting()

    def close(self) -> None:
        """Finish the file and give it its name; a second call does nothing.

        Raises:
            OutputError: not a single frame was written, or the disk is full. Then nothing is left.
        """
        if self._closed:
            return
        try:
            with writing(self.path):
                self._finish()
        except BaseException as error:
            self._abandon(error)
            raise
        self._closed = True
        self._on_exit.close()

    def _abandon(self, error: BaseException) -> None:
        if self._closed:
            return
        self._closed = True
        with suppress(Exception):
            self._container.close()
        with suppress(Exception):
            self._file.close()
        self._on_exit.__exit__(type(error), error, None)

    def _finish(self) -> None:
        if self.num_frames == 0:
            raise OutputError(f"cannot write {self.path}: there is no frame to write; give at least one")
        self._container.mux(self._video.encode(None))
        if self._audio is not None and self._audio_rate_hz is not None:
            self._queue(np.zeros(max(0, self._due_samples() - self.num_samples), np.float32), self._audio_rate_hz)
            self._encode_waiting()
            for frame in self._resampler.resample(None):
                self._container.mux(self._audio.encode(frame))
            self._container.mux(self._audio.encode(None))
        self._container.close()
        self._file.close()  # here, for what is still in its buffer may not fit the disk

    def _due_samples(self) -> int:
        """Samples that last as long as the frames written so far."""
        return math.ceil(self.num_frames / self._frame_rate * (self._audio_rate_hz or 0))

    def _queue(self, samples: NDArray[np.float32], rate_hz: int) -> None:
        if len(samples) == 0:
            return
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), self.num_samples
        self._waiting.write(frame)
        self.num_samples += len(samples)

    def _encode_waiting(self) -> None:
        """Encode what was queued, but never beyond the last frame: sound without a picture is cut off at the end."""
        if self._audio is None:
            return
        due = self._due_samples() - self._waiting.samples_read
        frame = self._waiting.read(min(due, self._waiting.samples)) if due > 0 and self._waiting.samples > 0 else None
        if frame is not None:
            for resampled in self._resampler.resample(frame):
                self._container.mux(self._audio.encode(resampled))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self._abandon(error)


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video file that is decoded as it is iterated."""

    path: Path
    width: int
    """Of the frames as they are shown, in pixels."""

    height: int
    """Of the frames as they are shown, in pixels."""

    frame_rate: Fraction
    """Frames per second, on average."""

    audio_rate_hz: int | None
    """Sample rate of the sound, None without sound."""

    _turns: int
    """Quarter turns, counterclockwise, that set the decoded frames upright."""

    def frames(self) -> Iterator[tuple[Fraction, Pixels]]:
        """Time in seconds and `(H, W, 3)` uint8 RGB of every frame, upright, in order of presentation.

        Raises:
            DataError: the file is damaged.
        """
        with _reading(self.path), av.open(self.path) as container:
            for frame in container.decode(video=0):
                seconds = Fraction(0) if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
                yield seconds, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), self._turns))

    def samples(self, origin: Fraction = Fraction(0)) -> NDArray[np.float32]:
        """Sound, `(N,)` mono float32 in [-1, 1] at `audio_rate_hz`; the first sample is at time `origin`. Empty without sound.

        Raises:
            DataError: the file is damaged.
        """
        if self.audio_rate_hz is None:
            return np.zeros(0, np.float32)
        parts: list[NDArray[np.float32]] = []
        start = Fraction(0)
        with _reading(self.path), av.open(self.path) as container:
            stream = container.streams.audio[0]
            to_mono = av.AudioResampler("fltp", "mono", self.audio_rate_hz)
            for frame in container.decode(stream):
                if not parts and frame.pts is not None and frame.time_base is not None:
                    start = frame.pts * frame.time_base
                parts += [mono.to_ndarray()[0] for mono in to_mono.resample(frame)]
            parts += [mono.to_ndarray()[0] for mono in to_mono.resample(None)]
            duration = None if stream.duration is None or stream.time_base is None else stream.duration * stream.time_base
        lead = round((start - origin) * self.audio_rate_hz)
        samples = np.concatenate([np.zeros(max(0, lead), np.float32), *parts])[max(0, -lead) :]
        if duration is None:
            return samples
        return samples[: max(0, round((max(start, Fraction(0)) + duration - origin) * self.audio_rate_hz))]


def read_video(path: str | os.PathLike[str]) -> Video:
    """Open a video file; its frames are set upright as its rotation says.

    Raises:
        DataError: no such file, or no video in it.
    """
    path = Path(path)
    with _reading(path), av.open(path) as container:
        if not container.streams.video:
            raise DataError(f"{path} holds no video; give a video file")
        stream = container.streams.video[0]
        first = next(container.decode(stream), None)
        if first is None:
            raise DataError(f"{path} holds no frame; give an intact video file")
        turns = round(first.rotation / 90) % 4
        width, height = (first.width, first.height) if turns % 2 == 0 else (first.height, first.width)
        return Video(
            path=path,
            width=width,
            height=height,
            frame_rate=stream.average_rate or stream.guessed_rate or Fraction(FRAME_RATE),
            audio_rate_hz=container.streams.audio[0].rate if container.streams.audio else None,
            _turns=turns,
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; give an intact video file") from error


def contact_sheet(
    frames: Sequence[Pixels], columns: int = 5, times_s: Sequence[float | Fraction] | None = None, tile_px: int = 192
) -> Pixels:
    """Lay frames out in rows, `columns` a row, each scaled to `tile_px` wide, with its time in its lower left corner.

    Args:
        frames: at least one `(H, W, 3)` uint8 RGB image, all of one shape.
        columns: tiles in a row.
        times_s: a time in seconds for each frame; no captions without.
        tile_px: width of a tile in pixels.

    Returns:
        `(rows * tile height, columns * tile_px, 3)` uint8 RGB; empty places are black.
    """
    tile_height = max(1, round(frames[0].shape[0] * tile_px / frames[0].shape[1]))
    rows = -(-len(frames) // columns)
    sheet = np.zeros((rows * tile_height, columns * tile_px, 3), np.uint8)
    for index, frame in enumerate(frames):
        tile = cv2.resize(frame, (tile_px, tile_height), interpolation=cv2.INTER_AREA)
        if times_s is not None:
            _caption(tile, f"{float(times_s[index]):.2f} s")
        row, column = divmod(index, columns)
        top, left = row * tile_height, column * tile_px
        sheet[top : top + tile_height, left : left + tile_px] = tile
    return sheet


def _caption(tile: cv2.typing.MatLike, text: str) -> None:
    place, scale = (4, tile.shape[0] - 6), tile.shape[1] / 400
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):  # white on a black rim reads on any picture
        cv2.putText(tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
