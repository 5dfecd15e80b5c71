"""Clips to the bytes of a shard's members and back. The same clip gives the same bytes, on every run.

Members by suffix: `512.mp4`, `256.mp4` (H.264, visually lossless, yuv420p, 25 fps), `flac` (16 kHz mono, 16 bits), `json`
(`ClipInfo`), `npz` (`landmarks_32nds_px`, and every label under its name).
"""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from numpy.typing import NDArray

from vivavoz.config_json import from_plain, to_plain
from vivavoz.data.shards.clip import LABELS, SIZES_PX, Clip, ClipInfo
from vivavoz.errors import ConfigError, DataError
from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ

CODEC_VERSION: Final = 2
"""Raised when the same clip gives other bytes."""
KEYFRAME_INTERVAL: Final = 12
"""At most this many frames are decoded to reach any one of them."""

_QUALITY: Final = {"preset": "veryfast", "crf": "14", "bf": "0", "g": str(KEYFRAME_INTERVAL), "threads": "1"}
_NO_STAMPS: Final = {"fflags": "+bitexact"}
_NO_PROBING: Final[dict[str, Any]] = {"options": {"probesize": "32"}, "stream_options": [{"skip_frame": "all"}]}
"""FFmpeg decodes the first frames of what it opens to learn what it is: known here, and most of the time that opening takes."""
_LANDMARK_STEPS: Final = 32
_PCM_PEAK: Final = 32767


def encode_clip(clip: Clip) -> dict[str, bytes]:
    """Bytes of the clip's members by suffix, in the order they are stored.

    Raises `DataError` for landmarks more than 1023 px off the crop.
    """
    frames = {size: clip.frames if size == SIZES_PX[0] else _resize(clip.frames, size) for size in SIZES_PX}
    return {
        "json": json.dumps(to_plain(clip.info), ensure_ascii=False, sort_keys=True).encode(),
        "npz": _encode_arrays(clip),
        "flac": _encode_sound(clip.samples),
        **{f"{size}.mp4": _encode_video(frames[size]) for size in reversed(SIZES_PX)},
    }


def decode_clip(members: Mapping[str, bytes]) -> Clip:
    """The clip that `encode_clip` gave; pictures, sound and landmarks as exact as the stored forms are.

    Raises `DataError` where a member is missing, damaged, or of another shape.
    """
    info = decode_info(_member(members, "json"))
    arrays = decode_arrays(_member(members, "npz"), info.key)
    return Clip(
        info=info,
        frames=decode_frames(_member(members, f"{SIZES_PX[0]}.mp4"), range(info.num_frames), info.key),
        samples=decode_sound(_member(members, "flac"), info.key),
        landmarks=arrays.pop("landmarks"),
        labels=arrays,
    )


def decode_info(member: bytes) -> ClipInfo:
    """The `json` member. Raises `DataError`."""
    try:
        return from_plain(ClipInfo, json.loads(member), "a clip's json")
    except (ValueError, ConfigError) as error:
        raise DataError(f"a clip's json cannot be read ({error}); write the shard again") from error


def decode_arrays(member: bytes, key: str) -> dict[str, NDArray]:
    """`landmarks` (T, 478, 3) float32 in px, and the labels there are by name. Raises `DataError`."""
    try:
        with np.load(io.BytesIO(member), allow_pickle=False) as stored:
            landmarks = stored["landmarks_32nds_px"].astype(np.float32) / _LANDMARK_STEPS
            return {"landmarks": landmarks, **{name: stored[name] for name in LABELS if name in stored}}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"npz of clip {key} is damaged ({error}); write the shard again") from error


def decode_sound(member: bytes, key: str, wanted: range | None = None) -> NDArray[np.float32]:
    """Samples (N,) in [-1, 1] of the `flac` member, all or the wanted ones. Raises `DataError`."""
    with _decoding(f"flac of clip {key}"), av.open(io.BytesIO(member), "r") as container:
        pcm: list[NDArray[np.int16]] = []
        first = 0
        for packet in container.demux(audio=0):
            if packet.pts is None or (wanted and not _overlap(range(packet.pts, packet.pts + (packet.duration or 0)), wanted)):
                continue  # every packet stands for itself
            first = first if pcm else packet.pts
            pcm += [frame.to_ndarray()[0] for frame in packet.decode()]
        samples = np.concatenate(pcm).astype(np.float32) / np.float32(_PCM_PEAK)
    if wanted is None:
        return samples
    samples = samples[wanted.start - first :][: len(wanted)]
    if len(samples) != len(wanted):
        raise DataError(f"flac of clip {key} gave {len(samples)} samples, expected {len(wanted)}; write the shard again")
    return samples


def decode_frames(member: bytes, wanted: Sequence[int], key: str) -> NDArray[np.uint8]:
    """The wanted frames (T, H, W, 3) of an `mp4` member, in any order; decoding begins at keyframes. Raises `DataError`."""
    pictures: dict[int, NDArray[np.uint8]] = {}
    to_rgb = VideoReformatter()  # one for all frames: to make it costs as much as to use it
    with _decoding(f"mp4 of clip {key}"), av.open(io.BytesIO(member), "r", "mp4", **_NO_PROBING) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        assert stream.time_base is not None
        ticks = round(1 / (FRAME_RATE * stream.time_base))
        frames, at = container.decode(stream), -1
        for index in sorted(set(wanted)):
            if index - at > KEYFRAME_INTERVAL:
                container.seek(index * ticks, stream=stream)
                frames = container.decode(stream)
            for frame in frames:
                assert frame.pts is not None
                at = frame.pts // ticks
                if at == index:
                    pictures[index] = np.asarray(to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray(), np.uint8)
                    break
            else:
                raise DataError(f"mp4 of clip {key} has no frame {index}; write the shard again")
    return np.stack([pictures[index] for index in wanted])


def _encode_video(frames: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options=_NO_STAMPS) as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options=_QUALITY)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _encode_sound(samples: NDArray[np.float32]) -> bytes:
    pcm = np.round(np.clip(samples, -1, 1) * _PCM_PEAK).astype(np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format="flac", options=_NO_STAMPS) as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono", options={"flags": "+bitexact"})
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _encode_arrays(clip: Clip) -> bytes:
    steps = np.round(clip.landmarks * _LANDMARK_STEPS)
    if np.abs(steps).max() > np.iinfo(np.int16).max:
        raise DataError(f"clip {clip.info.key} has landmarks {np.abs(clip.landmarks).max():.0f} px off; expected under 1024")
    file = io.BytesIO()  # compression would save 1 % of a shard, and take half as long to undo as a window's pictures
    np.savez(file, allow_pickle=False, landmarks_32nds_px=steps.astype(np.int16), **dict(sorted(clip.labels.items())))
    return file.getvalue()


def _resize(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.stack([np.asarray(cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA), np.uint8) for frame in frames])


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def _member(members: Mapping[str, bytes], suffix: str) -> bytes:
    if suffix not in members:
        raise DataError(
            f"a clip has the members {', '.join(sorted(members)) or 'none'}, expected {suffix}; write the shard again"
        )
    return members[suffix]


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, IndexError, av.FFmpegError) as error:
        raise DataError(f"{what} is damaged ({error}); write the shard again") from error
