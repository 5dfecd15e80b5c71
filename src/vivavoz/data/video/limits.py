"""What a clip of real video must be like, and the words for why one is left out.

A reason is a short code that never changes, so that reasons can be counted; what was measured goes beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from vivavoz.data.video.measure import Measures
from vivavoz.data.video.sync import Offset

Reason: TypeAlias = tuple[str, str]
"""A code, such as `blurred`, and what was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds that a clip keeps within."""

    min_seconds: float = 1.0
    min_crop_px: int = 200
    """Side of the crop in the source's pixels: it is enlarged to 512."""
    min_sharpness: float = 0.08
    min_face_height: float = 0.3
    """Of the crop's side."""
    max_face_height: float = 0.65
    max_yaw_deg: float = 35.0
    max_pitch_deg: float = 30.0
    max_roll_deg: float = 25.0
    max_lost: float = 0.1
    max_outside: float = 0.1
    max_jump: float = 0.35
    """Face heights between two pictures: more is a cut that went unnoticed."""
    max_covered: float = 0.15
    max_repeated: float = 0.3
    """Share of pictures that repeat the one before: a source of less than 18 frames a second."""
    max_other_face: float = 0.4
    """Size of another face within the crop, over the speaker's."""
    min_voice: float = 0.15
    """Share of frames in which somebody speaks."""
    min_sync_confidence: float = 0.25
    max_uncorrected_s: float = 0.06
    """Of an estimated offset: a smaller one may be the estimate's own error, and is left as it is."""
    min_correction_confidence: float = 0.4
    """For a larger one to be corrected."""
    max_offset_s: float = 0.3
    """An offset found near the end of the range that is searched is not believed."""


def judge_picture(measures: Measures, limits: Limits) -> Iterator[Reason]:
    """Why a clip's picture cannot be used."""
    for name, value, bound in (
        ("turned away", measures.yaw_deg, limits.max_yaw_deg),
        ("turned up or down", measures.pitch_deg, limits.max_pitch_deg),
        ("tilted", measures.roll_deg, limits.max_roll_deg),
    ):
        if value > bound:
            yield name, f"head at {value:.0f} degrees, expected at most {bound:.0f}"
    if measures.lost > limits.max_lost:
        yield "face lost", f"no face in {measures.lost:.0%} of the pictures"
    if measures.outside > limits.max_outside:
        yield "face leaves the crop", f"in {measures.outside:.0%} of the pictures"
    if measures.face_height < limits.min_face_height:
        yield "face too small", f"{measures.face_height:.2f} of the crop, expected {limits.min_face_height:.2f}"
    if measures.face_height > limits.max_face_height:
        yield "face too large", f"{measures.face_height:.2f} of the crop, expected at most {limits.max_face_height:.2f}"
    if measures.jump > limits.max_jump:
        yield "cut within", f"the head jumps {measures.jump:.2f} face heights between two pictures"
    if measures.sharpness < limits.min_sharpness:
        yield "blurred", f"sharpness {measures.sharpness:.3f}, expected {limits.min_sharpness:.3f}"
    if measures.covered > limits.max_covered:
        yield "face covered", f"something lies before it in {measures.covered:.0%} of the pictures"


def judge_sound(voice: float, offset: Offset | None, limits: Limits) -> Iterator[Reason]:
    """Why a clip's sound cannot be used; `voice` is the share of frames with speech."""
    if voice < limits.min_voice:
        yield "no voice", f"speech in {voice:.0%} of the time, expected {limits.min_voice:.0%}"
    elif offset is None:
        yield "lips do not move", "their shape never changes"
    elif offset.confidence < limits.min_sync_confidence:
        yield "lips do not match", f"confidence {offset.confidence:.2f}, expected {limits.min_sync_confidence:.2f}"
    elif abs(offset.offset_s) > limits.max_offset_s:
        yield "out of sync", f"sound seems {offset.offset_s:+.2f} s late, too far to be sure"
    elif abs(offset.offset_s) > limits.max_uncorrected_s and offset.confidence < limits.min_correction_confidence:
        yield "out of sync", f"sound seems {offset.offset_s:+.2f} s late, but with a confidence of {offset.confidence:.2f} only"
