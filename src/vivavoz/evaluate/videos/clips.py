"""Talking clips to be measured: pictures, sound and landmarks, from video files or from the shards of a corpus.

Legend: T pictures at 25 a second, N = 640 T samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.audio.reading import read_audio
from vivavoz.data.shards.clip import SIZES_PX
from vivavoz.data.shards.codec import decode_arrays, decode_frames, decode_sound
from vivavoz.data.shards.manifest import Manifest, StoredClip
from vivavoz.data.shards.storage import join
from vivavoz.data.video.measure import face_labels, measure_heads
from vivavoz.errors import DataError
from vivavoz.evaluate.faces import FindLandmarks, without_gaps
from vivavoz.media.video import read_video
from vivavoz.rig.landmarks import OVAL
from vivavoz.timing import FRAME_RATE, SAMPLES_PER_FRAME

HEAD_SIDE = 1.5
"""Side of a head crop in heights of the face."""
_LOST = 0.5
"""More pictures without a face than this share, and the landmarks say nothing."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TalkingClip:
    """A clip of one person speaking."""

    name: str
    frames: NDArray[np.uint8]
    """(T, H, W, 3) RGB."""
    samples: NDArray[np.float32]
    """(N,) mono, in [-1, 1]; empty for a video without sound."""
    landmarks: NDArray[np.float32] | None
    """(T, 478, 3) in pixels; None without a face finder, or where it found no face."""

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frames)

    def points(self) -> NDArray[np.float32]:
        """The landmarks. Raises `DataError` where there are none."""
        if self.landmarks is None:
            raise DataError(f"no landmarks of a face in {self.name}; expected a portrait, and MediaPipe to find it")
        return self.landmarks

    def face_boxes(self) -> NDArray[np.float32]:
        """Left, top, right and bottom of the face's oval in every picture, (T, 4). Raises `DataError` without landmarks."""
        oval = self.points()[:, list(OVAL), :2]
        return np.concatenate([oval.min(axis=1), oval.max(axis=1)], axis=1)

    def labels(self) -> dict[str, NDArray]:
        """Head pose, gaze, blinks and lip shape of every picture, as a corpus has them. Raises `DataError` without landmarks."""
        points = self.points()
        return face_labels(points, measure_heads(points))

    def cut(self, num_frames: int) -> TalkingClip:
        """The first so many pictures, and their sound."""
        return replace(
            self,
            frames=self.frames[:num_frames],
            samples=self.samples[: num_frames * SAMPLES_PER_FRAME],
            landmarks=None if self.landmarks is None else self.landmarks[:num_frames],
        )


def read_clip(path: Path, find: FindLandmarks | None = None) -> TalkingClip:
    """A video file, whole; `find` finds the landmarks. At 25 pictures a second it takes the ones nearest in time.

    Raises:
        DataError: no such file, or no video in it.
    """
    video = read_video(path)
    frames = np.stack(list(_at_frame_rate(video.frames())))
    samples = read_audio(path) if video.audio_rate_hz else np.zeros(0, np.float32)
    if len(samples):
        samples = np.pad(samples, (0, max(len(frames) * SAMPLES_PER_FRAME - len(samples), 0)))
    return TalkingClip(
        name=path.stem,
        frames=frames,
        samples=samples[: len(frames) * SAMPLES_PER_FRAME],
        landmarks=None if find is None else _track(frames, find),
    )


def stored_clips(folder: str) -> Iterator[tuple[str, StoredClip]]:
    """Every clip of a corpus of shards, in order, with its shard's name. Raises `DataError` where there is no corpus."""
    return ((shard.name, clip) for shard in Manifest.load(folder).shards for clip in shard.clips)


def read_stored(folder: str, shard: str, stored: StoredClip, size_px: int = SIZES_PX[0]) -> TalkingClip:
    """One clip of a corpus, in pictures of 512 or 256. Raises `DataError` where its shard is damaged or has no such pictures."""
    key, url = stored.info.key, join(folder, shard)
    return TalkingClip(
        name=key,
        frames=decode_frames(stored.read(url, f"{size_px}.mp4"), range(stored.info.num_frames), key),
        samples=decode_sound(stored.read(url, "flac"), key),
        landmarks=decode_arrays(stored.read(url, "npz"), key)["landmarks"] * np.float32(size_px / SIZES_PX[0]),
    )


def head_crop(clip: TalkingClip) -> TalkingClip:
    """The head alone, in a square that stands still, at the same size: for the paper's head videos (table I).

    The square is centred on the face's median place and is 1.5 heights of the face wide; what lies outside the picture repeats
    its edge. Raises `DataError` without landmarks.
    """
    boxes = np.median(clip.face_boxes(), axis=0)
    size = clip.frames.shape[1]
    side = HEAD_SIDE * float(boxes[3] - boxes[1])
    corner = (boxes[:2] + boxes[2:]) / 2 - side / 2
    to_crop = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]], np.float64) * (size / side)
    kind = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    frames = [cv2.warpAffine(image, to_crop, (size, size), flags=kind, borderMode=cv2.BORDER_REPLICATE) for image in clip.frames]
    points = clip.points().copy()
    points[..., :2] -= corner
    return replace(clip, frames=np.stack(frames).astype(np.uint8), landmarks=(points * (size / side)).astype(np.float32))


def _at_frame_rate(frames: Iterator[tuple]) -> Iterator[NDArray[np.uint8]]:
    """Of timed pictures those nearest to every 25th of a second; each may come several times or never."""
    start_s, before, before_s, index = None, None, 0.0, 0
    for time_s, image in frames:
        if start_s is None:
            start_s, before = time_s, image
        at_s = float(time_s - start_s)
        while index / FRAME_RATE <= at_s:
            assert before is not None
            yield before if index / FRAME_RATE - before_s < at_s - index / FRAME_RATE else image
            index += 1
        before, before_s = image, at_s


def _track(frames: NDArray[np.uint8], find: FindLandmarks) -> NDArray[np.float32] | None:
    """Landmarks of every picture; those of pictures without a face come from their neighbours. None where most have none."""
    found = [find(image) for image in frames]
    num_seen = sum(points is not None for points in found)
    return without_gaps(found) if num_seen > _LOST * len(frames) else None
