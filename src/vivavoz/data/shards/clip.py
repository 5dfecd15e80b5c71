"""A clip of a talking portrait: at most 10 seconds of one person at 25 pictures a second, with sound, landmarks and labels.

`T` frames, `N` samples at 16 kHz, N = 640 T.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivavoz.data.phonemes import CONSONANTS, SILENCE, VOWELS
from vivavoz.engine.controls import EXPRESSIONS, STATES
from vivavoz.errors import DataError
from vivavoz.rig.landmarks import NUM_LANDMARKS
from vivavoz.timing import FRAME_RATE, SAMPLES_PER_FRAME

MAX_FRAMES: Final = 10 * FRAME_RATE
SIZES_PX: Final = (512, 256)
"""Sides of the square pictures that are stored; `Clip.frames` has the first."""

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")
Fact: TypeAlias = str | int | float | bool

PHONEMES: Final = (SILENCE, *sorted(VOWELS | CONSONANTS))
"""ARPAbet without stress marks; the first is a pause."""
LIP_SHAPE: Final = ("opening", "width", "height")
"""Gap of the inner lips, corner to corner, and upper edge to lower edge of the outer lips, in face heights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelKind:
    """What an array of labels holds: `dtype`, the names of its columns (none: shape (T,)), or of its classes."""

    dtype: type[np.generic]
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    unit: str = ""


LABELS: Final[dict[str, LabelKind]] = {
    "state": LabelKind(dtype=np.uint8, classes=STATES),
    "expression": LabelKind(dtype=np.uint8, classes=EXPRESSIONS),
    "expression_intensity": LabelKind(dtype=np.float32, unit="0 to 1"),
    "gaze": LabelKind(dtype=np.float32, columns=("yaw", "pitch"), unit="rad"),
    "head_pose": LabelKind(dtype=np.float32, columns=("yaw", "pitch", "roll"), unit="rad"),
    "blink": LabelKind(dtype=np.float32, columns=("left", "right"), unit="0 open to 1 shut"),
    "lip_shape": LabelKind(dtype=np.float32, columns=LIP_SHAPE, unit="face heights"),
    "phoneme": LabelKind(dtype=np.uint8, classes=PHONEMES),
}
"""Every label a clip can have, one row per frame: (T,) or (T, columns). Left and right are the picture's; yaw turns to the right
of the picture, pitch up, roll tips the head to the right. A clip leaves out what nobody knows of it."""

_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipInfo:
    """What is known of a clip beside its pictures and sound; saved as JSON."""

    key: str
    """Unique in a corpus; letters, digits, `_` and `-`."""
    identity: str
    """The person: the same string for all clips of one, another for everybody else."""
    source: str
    """Where it comes from: a path within the source's folder, or a URL."""
    licence: str
    split: Split
    num_frames: int
    crop_track_px: tuple[tuple[float, float, float], ...] = ()
    """Left, top and side of the square crop in pixels of the source: a row per frame, one row if it stands still, or none."""
    facts: dict[str, Fact] = field(default_factory=dict)
    """Whatever else is worth knowing: the start in the source, measured quality, the seed it was made from."""

    def __post_init__(self) -> None:
        """Refuse what cannot be stored or read again."""
        if not _KEY.fullmatch(self.key):
            raise DataError(f"key of a clip is {self.key!r}; expected letters, digits, _ and -: give such a name")
        for name in ("identity", "source", "licence"):
            if not getattr(self, name):
                raise DataError(f"clip {self.key} has no {name}; say it, if only 'unknown'")
        if self.split not in SPLITS:
            raise DataError(f"clip {self.key} is in split {self.split!r}; expected one of {', '.join(SPLITS)}")
        if not 1 <= self.num_frames <= MAX_FRAMES:
            raise DataError(f"clip {self.key} has {self.num_frames} frames; expected 1 to {MAX_FRAMES}: cut it")
        if len(self.crop_track_px) not in (0, 1, self.num_frames):
            raise DataError(
                f"clip {self.key} has {len(self.crop_track_px)} crops, expected 0, 1 or {self.num_frames}: one per frame"
            )

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.num_frames / FRAME_RATE


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Clip:
    """A clip in memory."""

    info: ClipInfo
    frames: NDArray[np.uint8]
    """(T, 512, 512, 3) RGB."""
    samples: NDArray[np.float32]
    """(640 T,) mono, 16 kHz, in [-1, 1]; stored with 16 bits."""
    landmarks: NDArray[np.float32]
    """(T, 478, 3) in pixels of the 512 crop; stored to 1/32 px."""
    labels: Mapping[str, NDArray]
    """By name, shaped and typed as `LABELS` says."""

    def __post_init__(self) -> None:
        """Refuse arrays of another shape or type, and labels that nobody would read."""
        count, side = self.info.num_frames, SIZES_PX[0]
        self._check("frames", self.frames, (count, side, side, 3), np.uint8)
        self._check("samples", self.samples, (count * SAMPLES_PER_FRAME,), np.float32)
        self._check("landmarks", self.landmarks, (count, NUM_LANDMARKS, 3), np.float32)
        for name, values in self.labels.items():
            if name not in LABELS:
                raise DataError(f"clip {self.info.key} has a label {name!r}; expected only {', '.join(LABELS)}")
            kind = LABELS[name]
            self._check(f"label {name}", values, (count, len(kind.columns)) if kind.columns else (count,), kind.dtype)
            if kind.classes and values.max() >= len(kind.classes):
                raise DataError(f"clip {self.info.key} has {name} {values.max()}; expected classes under {len(kind.classes)}")

    def _check(self, name: str, values: NDArray, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        if values.shape != shape or values.dtype != dtype:
            got, expected = f"{values.shape} {values.dtype}", f"{shape} {np.dtype(dtype)}"
            raise DataError(f"clip {self.info.key}: {name} is {got}; expected {expected}: cut or convert it")
        if values.dtype == np.float32 and not np.isfinite(values).all():
            raise DataError(f"clip {self.info.key}: {name} holds numbers that are not finite; check what produced it")
