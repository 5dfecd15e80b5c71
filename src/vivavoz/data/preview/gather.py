"""What the preview page shows of a corpus, as plain JSON values: some clips in full, and figures over many.

`T` frames.
"""

import base64
import io
import math
from collections.abc import Sequence
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from vivavoz.config_json import to_plain
from vivavoz.data.shards.clip import LABELS, MAX_FRAMES, SIZES_PX, ClipInfo
from vivavoz.data.shards.codec import decode_arrays, decode_info, decode_sound
from vivavoz.data.shards.manifest import Manifest, Shard, StoredClip
from vivavoz.data.shards.storage import join
from vivavoz.rig import landmarks as lm
from vivavoz.timing import FRAME_RATE, SAMPLES_PER_FRAME

OUTLINES: Final[tuple[tuple[int, ...], ...]] = (
    lm.OVAL,
    lm.EYE_LEFT,
    lm.EYE_RIGHT,
    lm.OUTER_LIPS,
    lm.INNER_LIPS,
    lm.IRIS_LEFT[1:],
    lm.IRIS_RIGHT[1:],
)
"""Closed lines that are drawn over the picture."""

MAX_MEASURED: Final = 200
"""Clips whose labels are read for the figures; a corpus may have millions."""
MAX_REJECTIONS: Final = 200
"""Rejections that are listed one by one."""
_BARS: Final = 24
_PEAKS_PER_FRAME: Final = 2

_HISTOGRAMS: Final = (
    ("Head yaw", "head_pose", 0, "degrees"),
    ("Head pitch", "head_pose", 1, "degrees"),
    ("Gaze yaw", "gaze", 0, "degrees"),
    ("Lip opening", "lip_shape", 0, "face heights"),
)


def choose(manifest: Manifest, count: int, seed: int) -> list[tuple[Shard, StoredClip]]:
    """Up to `count` clips at random, of as many people as there are; in the corpus's order."""
    places = [(shard, clip) for shard in manifest.shards for clip in shard.clips]
    order = np.random.default_rng(seed).permutation(len(places)).tolist()
    turns: dict[str, int] = {}
    turn_of: dict[int, int] = {}
    for index in order:
        identity = places[index][1].info.identity
        turn_of[index] = turns[identity] = turns.get(identity, -1) + 1
    first = sorted(order, key=turn_of.__getitem__)[:count]  # stable: everybody's first clip, then everybody's second
    return [places[index] for index in sorted(first)]


def gather(folder: str, manifest: Manifest, chosen: Sequence[tuple[Shard, StoredClip]], *, seed: int) -> dict[str, Any]:
    """All that the page shows."""
    clips = list(manifest.clips())
    lengths_s, _ = np.histogram(
        [clip.seconds for clip in clips], bins=MAX_FRAMES // FRAME_RATE, range=(0, MAX_FRAMES / FRAME_RATE)
    )
    return {
        "title": folder.rstrip("/").rsplit("/", 1)[-1] or folder,
        "summary": manifest.summary(),
        "licences": _seconds_by(clips, "licence"),
        "lengths": lengths_s.tolist(),
        "shards": [_shard_row(shard) for shard in manifest.shards],
        "rejections": [to_plain(rejection) for rejection in manifest.rejected[:MAX_REJECTIONS]],
        "figures": _figures(folder, choose(manifest, MAX_MEASURED, seed)),
        "labels": {name: {"columns": kind.columns, "classes": kind.classes, "unit": kind.unit} for name, kind in LABELS.items()},
        "outlines": _renumbered(OUTLINES),
        "picture_px": SIZES_PX[0],
        "clips": [_clip(folder, shard, clip) for shard, clip in chosen],
    }


def _clip(folder: str, shard: Shard, clip: StoredClip) -> dict[str, Any]:
    def read(suffix: str) -> bytes:
        return clip.read(join(folder, shard.name), suffix)

    key = clip.info.key
    info = decode_info(read("json"))
    arrays = decode_arrays(read("npz"), key)
    landmarks = arrays.pop("landmarks")[:, _points(OUTLINES), :2]
    sound = read("flac")
    peaks = np.abs(decode_sound(sound, key)).reshape(-1, SAMPLES_PER_FRAME // _PEAKS_PER_FRAME).max(1)
    return {
        "info": to_plain(info),
        "shard": shard.name,
        "film": base64.b64encode(film(read("256.mp4"), sound)).decode(),
        "peaks": [round(float(peak), 3) for peak in peaks],
        "landmarks": base64.b64encode(np.round(landmarks * 8).astype("<i2").tobytes()).decode(),
        "labels": {name: _plain(values) for name, values in arrays.items()},
    }


def film(video: bytes, sound: bytes) -> bytes:
    """One MP4 with the packets of both, as they are: what is shown is what training reads."""
    target = io.BytesIO()
    with (
        av.open(io.BytesIO(video), "r") as pictures,
        av.open(io.BytesIO(sound), "r") as samples,
        av.open(target, "w", format="mp4") as container,
    ):
        # Both streams must be there before the first packet.
        streams = [container.add_stream_from_template(source.streams[0]) for source in (pictures, samples)]
        for source, stream in zip((pictures, samples), streams, strict=True):
            stream.time_base = source.streams[0].time_base
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    container.mux(packet)
    return target.getvalue()


def _figures(folder: str, measured: Sequence[tuple[Shard, StoredClip]]) -> dict[str, Any]:
    arrays = [decode_arrays(clip.read(join(folder, shard.name), "npz"), clip.info.key) for shard, clip in measured]
    classes, histograms = {}, []
    for name, kind in LABELS.items():
        values = [one[name] for one in arrays if name in one]
        if kind.classes and values:
            counts = np.bincount(np.concatenate(values), minlength=len(kind.classes))
            classes[name] = {one: int(count) / FRAME_RATE for one, count in zip(kind.classes, counts, strict=True) if count}
    for title, name, column, unit in _HISTOGRAMS:
        values = [one[name][:, column] for one in arrays if name in one]
        if values:
            histograms.append({"title": title, "unit": unit, **_histogram(np.concatenate(values), unit)})
    return {"num_clips": len(measured), "classes": classes, "histograms": histograms}


def _histogram(values: NDArray[np.float32], unit: str) -> dict[str, Any]:
    """Counts over a range that has all but the farthest: angles to both sides of 0, lengths from 0."""
    flat, step = (np.degrees(values), 5.0) if unit == "degrees" else (values, 0.04)
    highest = step * max(1.0, math.ceil(np.percentile(np.abs(flat), 99.5) / step))
    lowest = -highest if unit == "degrees" else 0.0
    counts, _ = np.histogram(np.clip(flat, lowest, highest), bins=_BARS, range=(lowest, highest))
    low, middle, high = (round(float(value), 3) for value in np.percentile(flat, (5, 50, 95)))
    return {"range": (lowest, highest), "counts": counts.tolist(), "p5": low, "p50": middle, "p95": high}


def _seconds_by(clips: Sequence[ClipInfo], name: str) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for clip in clips:
        seconds[getattr(clip, name)] = seconds.get(getattr(clip, name), 0) + clip.seconds
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _shard_row(shard: Shard) -> dict[str, Any]:
    seconds = sum(clip.info.seconds for clip in shard.clips)
    return {
        "name": shard.name,
        "clips": len(shard.clips),
        "seconds": seconds,
        "bytes": shard.num_bytes,
        "sha256": shard.sha256,
    }


def _points(outlines: Sequence[Sequence[int]]) -> list[int]:
    return sorted({point for outline in outlines for point in outline})


def _renumbered(outlines: Sequence[Sequence[int]]) -> list[list[int]]:
    """The outlines over the points that are kept."""
    place = {point: index for index, point in enumerate(_points(outlines))}
    return [[place[point] for point in outline] for outline in outlines]


def _plain(values: NDArray) -> list[Any]:
    return values.tolist() if values.dtype == np.uint8 else np.round(values.astype(np.float64), 4).tolist()
