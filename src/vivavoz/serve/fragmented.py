"""Moments as fragmented MP4 that a browser's MediaSource plays: H.264 and AAC, in pieces of a few pictures.

`H W 3` pictures uint8 RGB; `N` samples mono int16.
"""

from __future__ import annotations

import io
import threading
from fractions import Fraction

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

from vivavoz.serve.moments import Moment
from vivavoz.serve.sound import SAMPLES_PER_MOMENT, SOUND_RATE_HZ
from vivavoz.timing import FRAME_RATE

MIME = 'video/mp4; codecs="avc1.42c01f, mp4a.40.2"'
"""What the bytes are, as `MediaSource.addSourceBuffer` wants to know."""

_FRAGMENT_FRAMES = 3
_KEYFRAME_EVERY = 2 * FRAME_RATE


class FragmentedMP4:
    """Encodes one viewer's moments. A picture takes some milliseconds, so not in the event loop; any thread may close it."""

    def __init__(self, size_px: int) -> None:
        self._sink = _Sink()
        self._container = av.open(
            self._sink,
            "w",
            format="mp4",
            options={
                "movflags": "empty_moov+delay_moov+default_base_moof",
                "frag_duration": str(_FRAGMENT_FRAMES * 1_000_000 // FRAME_RATE),
                "flush_packets": "1",
            },
        )
        options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20", "profile": "baseline", "level": "3.1", "bf": "0"}
        self._video = self._container.add_stream("libx264", rate=FRAME_RATE, options=options)
        self._video.width = self._video.height = size_px
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.thread_count = 1
        self._video.codec_context.gop_size = _KEYFRAME_EVERY
        self._video.codec_context.colorspace, self._video.codec_context.color_range = Colorspace.ITU709, ColorRange.MPEG
        self._audio = self._container.add_stream("aac", rate=SOUND_RATE_HZ, layout="mono")
        self._audio.bit_rate = 64_000
        self._lock = threading.Lock()
        self._first: int | None = None
        self._next = 0

    def encode(self, moments: list[Moment]) -> bytes:
        """The bytes that are complete after these moments; times count from the first moment ever given. A gap in the moments
        is a gap in the times, and goes on with a keyframe."""
        with self._lock:
            for moment in moments:
                if self._first is None:
                    self._first = self._next = moment.index
                has_gap = moment.index != self._next
                self._next = moment.index + 1
                self._encode_image(moment, moment.index - self._first, is_key=has_gap)
                self._encode_sound(moment, moment.index - self._first)
            return self._sink.take()

    def close(self) -> bytes:
        """Finish; the last bytes."""
        with self._lock:
            if self._first is not None:
                self._container.mux(self._video.encode(None))
                self._container.mux(self._audio.encode(None))
            self._container.close()
            return self._sink.take()

    def _encode_image(self, moment: Moment, index: int, *, is_key: bool) -> None:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(moment.image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
        if is_key:
            frame.pict_type = PictureType.I
        self._container.mux(self._video.encode(frame))

    def _encode_sound(self, moment: Moment, index: int) -> None:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(moment.sound[None]), format="s16", layout="mono")
        frame.sample_rate, frame.time_base = SOUND_RATE_HZ, Fraction(1, SOUND_RATE_HZ)
        frame.pts = index * SAMPLES_PER_MOMENT
        self._container.mux(self._audio.encode(frame))


class _Sink(io.RawIOBase):
    """Takes what the muxer writes, to be fetched from time to time. It cannot seek."""

    def __init__(self) -> None:
        self._data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(memoryview(data))  # type: ignore[arg-type]
        self._data += piece
        return len(piece)

    def take(self) -> bytes:
        """What was written since it was asked last."""
        data, self._data = bytes(self._data), bytearray()
        return data
