"""Small clips: a bright bar that moves over a soft picture, a tone, and labels that tell which frame they belong to."""

import numpy as np

from vivavoz.data.shards.clip import LABELS, Clip, ClipInfo
from vivavoz.data.shards.manifest import split_of


def make_clip(key="anna-1", *, identity="anna", num_frames=26, without=(), split=None, **info):
    rows, columns, channels = np.ogrid[:512, :512, :3]
    picture = 60 + 40 * np.sin(rows / 31 + channels) * np.cos(columns / 47)
    frames = np.repeat(picture.astype(np.uint8)[None], num_frames, axis=0)
    for index in range(num_frames):
        frames[index, :, bar_of(index) : bar_of(index) + 16] = 240
    time_s = np.arange(num_frames * 640) / 16_000
    landmarks = np.random.default_rng(0).uniform(0, 512, (1, 478, 3)) + np.arange(num_frames)[:, None, None]
    labels = {}
    for name, kind in LABELS.items():
        shape = (num_frames, len(kind.columns)) if kind.columns else (num_frames,)
        rows = np.arange(num_frames).reshape(-1, *[1] * (len(shape) - 1))
        labels[name] = np.broadcast_to(rows % len(kind.classes) if kind.classes else rows / 100, shape).astype(kind.dtype)
    return Clip(
        info=ClipInfo(
            key=key,
            identity=identity,
            source=f"{identity}.mp4",
            licence="CC0",
            split=split or split_of(identity),
            num_frames=num_frames,
            **info,
        ),
        frames=frames,
        samples=(0.5 * np.sin(2 * np.pi * 220 * time_s)).astype(np.float32),
        landmarks=landmarks.astype(np.float32),
        labels={name: values for name, values in labels.items() if name not in without},
    )


def bar_of(index):
    """Left edge of the bar in frame `index`, in px of 512."""
    return 20 + 17 * index


def frame_of(image):
    """Which frame of a clip a picture (H, W, 3) is, by its bar."""
    columns = np.asarray(image, np.float32)[:, :, 2].mean(0)
    return round((float(np.flatnonzero(columns > 200).mean()) * 512 / len(columns) - 7.5 - 20) / 17)
