"""A video to clips: every piece of it either becomes one or is rejected with its reasons.

Legend: T frames, N samples at 16 kHz.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.audio.reading import is_silent, read_audio
from vivavoz.audio.resample import StreamingResampler
from vivavoz.data.phonemes import Phoneme
from vivavoz.data.shards.clip import PHONEMES, Clip, ClipInfo
from vivavoz.data.shards.manifest import Rejection, split_of
from vivavoz.data.video.faces import FaceReader, Landmarks
from vivavoz.data.video.limits import Limits, Reason, judge_picture, judge_sound
from vivavoz.data.video.measure import (
    CROP_PX,
    SAMPLE_EVERY_FRAMES,
    face_labels,
    measure,
    measure_heads,
    on_face,
)
from vivavoz.data.video.rate import Picture, at_constant_rate
from vivavoz.data.video.sources import VideoSource
from vivavoz.data.video.survey import Piece, look, plan
from vivavoz.data.video.sync import estimate_offset
from vivavoz.engine.controls import STATES
from vivavoz.errors import AudioError, DataError
from vivavoz.media.image import MIN_SIDE_PX, Pixels
from vivavoz.media.video import Video, read_video
from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

Samples: TypeAlias = NDArray[np.float32]

SPEAKING_ABOVE: Final = 0.5
_PAUSE_FRAMES: Final = 6
"""Pauses up to half a second belong to speaking: so many frames on either side of a voice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Senses:
    """What sees and hears; the tests have simpler ones."""

    faces: FaceReader
    voice: Callable[[Samples, int], NDArray[np.float32]]
    """How likely somebody speaks in each of T frames, (T,), from samples (N,)."""
    phonemes: Callable[[Samples, Sequence[str]], Sequence[Phoneme]] | None = None
    """Sounds of speech, from samples and the words that are said (none: not known); None leaves them out."""


def clips_of(source: VideoSource, senses: Senses, limits: Limits) -> Iterator[Clip | Rejection]:
    """Clips of one source, and what was left out of it, in order of time.

    A file that cannot be used is one rejection; nothing is raised for it.
    """
    try:
        video = read_video(source.path)
        if min(video.width, video.height) < max(MIN_SIDE_PX, limits.min_crop_px):
            yield _whole(source, "resolution", f"{video.width}x{video.height} pixels, expected {limits.min_crop_px} a side")
            return
        start = next(video.frames())[0]
        sound = _read_sound(video, source, start)
    except AudioError as error:
        yield _whole(source, "unreadable sound", str(error))
        return
    except DataError as error:
        yield _whole(source, "unreadable", str(error))
        return
    if sound is None or is_silent(sound):
        yield _whole(source, "no sound", "the video has no sound track" if sound is None else "the sound is silent throughout")
        return
    try:
        yield from _clips(source, video, sound, senses, limits)
    except DataError as error:
        if isinstance(error.__cause__, ImportError):  # a missing library is not the video's fault
            raise
        yield _whole(source, "unreadable", str(error))


def _clips(source: VideoSource, video: Video, sound: Samples, senses: Senses, limits: Limits) -> Iterator[Clip | Rejection]:
    survey = look(_pictures(video, source), senses.faces, source.region_px)
    if survey.num_frames == 0:
        yield _whole(source, "too short", "its part of the video holds no picture")
        return
    pieces = plan(survey, limits)
    for piece, pictures in _cut(_pictures(video, source), pieces):
        if piece.reason:
            yield _rejection(source, piece, [(piece.reason, piece.detail)])
        else:
            yield _clip(source, piece, pictures, sound, senses, limits)


def _pictures(video: Video, source: VideoSource) -> Iterator[Picture]:
    """Pictures of the source's part."""
    end = None if source.end_s is None else round(source.end_s * FRAME_RATE)
    return islice(at_constant_rate(video.frames()), _first_frame(source), end)


def _first_frame(source: VideoSource) -> int:
    return round(source.start_s * FRAME_RATE)


def _read_sound(video: Video, source: VideoSource, start: Fraction) -> Samples | None:
    """All sound (N,) at 16 kHz from the video's first picture on; None without any."""
    if source.sound_path:
        return read_audio(source.sound_path)
    if video.audio_rate_hz is None:
        return None
    samples = video.samples(start)
    resampler = StreamingResampler(video.audio_rate_hz, 1)
    return np.concatenate([resampler.push(samples[:, None]), resampler.flush()])


def _cut(pictures: Iterator[Picture], pieces: Sequence[Piece]) -> Iterator[tuple[Piece, list[Picture]]]:
    """Every piece with its pictures, cut and resized to 512; none for a piece that is rejected already."""
    for piece in pieces:  # they follow one another without gaps
        cut = []
        for picture in islice(pictures, piece.end - piece.start):
            if not piece.reason:
                image = _crop(picture.image, piece.square)
                cut.append(Picture(index=picture.index, image=image, source_index=picture.source_index))
        yield piece, cut


def _crop(image: Pixels, square: tuple[int, int, int]) -> Pixels:
    left, top, side = square
    interpolation = cv2.INTER_AREA if side > CROP_PX else cv2.INTER_CUBIC
    resized = cv2.resize(image[top : top + side, left : left + side], (CROP_PX, CROP_PX), interpolation=interpolation)
    return np.ascontiguousarray(resized, np.uint8)


def _clip(
    source: VideoSource, piece: Piece, pictures: list[Picture], sound: Samples, senses: Senses, limits: Limits
) -> Clip | Rejection:
    crops = [picture.image for picture in pictures]
    repeated = sum(a.source_index == b.source_index for a, b in pairwise(pictures)) / len(pictures)
    if repeated > limits.max_repeated:
        return _rejection(source, piece, [("frame rate", f"{repeated:.0%} of the pictures repeat the one before")])
    seen = senses.faces.follow(crops)
    lost = sum(points is None for points in seen) / len(seen)
    if lost > limits.max_lost:
        return _rejection(source, piece, [("face lost", f"no face in {lost:.0%} of the pictures")])
    landmarks = _fill(seen)
    heads = measure_heads(landmarks)
    hands = [
        any(on_face(hand, landmarks[i]) for hand in senses.faces.hands(crops[i]))
        for i in range(0, len(crops), SAMPLE_EVERY_FRAMES)
    ]
    measures = measure(crops, landmarks, heads, lost, hands)
    labels = face_labels(landmarks, heads)
    start = _first_frame(source) + piece.start
    left, top, side = piece.square
    samples = _part(sound, start, len(crops), 0.0)
    voice = senses.voice(samples, len(crops))
    spoken = float((voice > SPEAKING_ABOVE).mean())
    offset = estimate_offset(labels["lip_shape"], samples) if spoken >= limits.min_voice else None
    reasons = [*judge_picture(measures, limits), *judge_sound(spoken, offset, limits)]
    if reasons or offset is None:
        return _rejection(source, piece, reasons)
    corrected = abs(offset.offset_s) > limits.max_uncorrected_s
    if corrected:
        samples = _part(sound, start, len(crops), offset.offset_s)
        voice = senses.voice(samples, len(crops))
    facts = {
        "start_s": start / FRAME_RATE,
        "voice": spoken,
        "sync_offset_s": offset.offset_s,
        "sync_r": offset.r,
        "sync_confidence": offset.confidence,
        "sync_corrected": corrected,
        "repeated": repeated,
        **asdict(measures),
    }
    labels["state"] = _states(voice)
    words = [word.text for word in source.words if start <= word.start_s * FRAME_RATE < start + len(crops)]
    if senses.phonemes is not None:
        labels["phoneme"] = _phoneme_classes(senses.phonemes(samples, words), len(crops))
    info = ClipInfo(
        key=f"{source.name}_{start:06d}",
        identity=source.identity,
        source=source.origin,
        licence=source.licence,
        split=source.split or split_of(source.identity),
        num_frames=len(crops),
        crop_track_px=((float(left), float(top), float(side)),),
        facts={name: round(value, 4) if isinstance(value, float) else value for name, value in facts.items()}
        | ({"text": " ".join(words)} if words else {}),
    )
    return Clip(info=info, frames=np.stack(crops), samples=samples, landmarks=landmarks, labels=labels)


def _part(sound: Samples, start_frame: int, num_frames: int, late_s: float) -> Samples:
    """Samples of some frames, of a sound that is late by `late_s`; silence where there is none."""
    first = start_frame * SAMPLES_PER_FRAME + round(late_s * SAMPLE_RATE_HZ)
    part = np.zeros(num_frames * SAMPLES_PER_FRAME, np.float32)
    there = sound[max(first, 0) : max(first + len(part), 0)]
    part[max(-first, 0) : max(-first, 0) + len(there)] = there
    return part


def _fill(seen: Sequence[Landmarks | None]) -> NDArray[np.float32]:
    """Landmarks (T, 478, 3) of every frame: between neighbours where a frame has none."""
    known = [index for index, points in enumerate(seen) if points is not None]
    filled = np.stack([points for points in seen if points is not None]).astype(np.float32)
    if len(known) == len(seen):
        return filled
    at = np.interp(np.arange(len(seen)), known, np.arange(len(known)))
    below = np.floor(at).astype(int)
    above = np.minimum(below + 1, len(known) - 1)
    share = (at - below)[:, None, None].astype(np.float32)
    return np.asarray((1 - share) * filled[below] + share * filled[above], np.float32)


def _states(voice: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Speaking, short pauses included, or idle: whether a silent person listens cannot be told."""
    speaking = np.convolve(voice > SPEAKING_ABOVE, np.ones(2 * _PAUSE_FRAMES + 1), mode="full")[_PAUSE_FRAMES:][: len(voice)] > 0
    return np.where(speaking, STATES.index("speaking"), STATES.index("idle")).astype(np.uint8)


def _phoneme_classes(phonemes: Sequence[Phoneme], num_frames: int) -> NDArray[np.uint8]:
    """Class of the sound at the middle of every frame, (T,)."""
    classes = np.zeros(num_frames, np.uint8)
    middles_s = (np.arange(num_frames) + 0.5) / FRAME_RATE
    for phoneme in phonemes:
        classes[(middles_s >= phoneme.start_s) & (middles_s < phoneme.end_s)] = PHONEMES.index(phoneme.symbol)
    return classes


def _whole(source: VideoSource, reason: str, detail: str) -> Rejection:
    return Rejection(source=source.origin, reasons=(reason,), detail=detail)


def _rejection(source: VideoSource, piece: Piece, reasons: Sequence[Reason]) -> Rejection:
    return Rejection(
        source=source.origin,
        reasons=tuple(reason for reason, _ in reasons),
        start_s=(_first_frame(source) + piece.start) / FRAME_RATE,
        seconds=(piece.end - piece.start) / FRAME_RATE,
        detail="; ".join(f"{reason}: {detail}" for reason, detail in reasons),
    )
