"""What a model is measured on: portraits and recordings it was not trained on.

Legend: P portraits, F pictures of a recording, N samples at 16 kHz.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vivavoz.audio.alignment import frames_of_samples
from vivavoz.data.phonemes import Phoneme
from vivavoz.errors import DataError
from vivavoz.rig.rig import Rig
from vivavoz.timing import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldPortrait:
    """A portrait crop of somebody the model has not seen."""

    name: str
    image: NDArray[np.uint8]
    """(512, 512, 3) RGB."""
    landmarks: NDArray[np.float32]
    """(478, 3) in pixels."""
    matte: NDArray[np.uint8] | None = None
    """(512, 512), 255 on the person, if there is one."""

    def rig(self) -> Rig:
        """The portrait, ready to be animated."""
        return Rig.from_image(self.image, self.landmarks, self.matte)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldSpeech:
    """A recording of somebody the model has not heard, and the animator's performance of it."""

    name: str
    samples: NDArray[np.float32]
    """(N,) at 16 kHz in [-1, 1]."""
    phonemes: tuple[Phoneme, ...]
    motion: NDArray[np.float32]
    """(F, len(MOTION)): the truth."""

    def cut(self, num_frames: int) -> "HeldSpeech":
        """The first `num_frames` pictures; all, where there are fewer."""
        num_frames = min(num_frames, len(self.motion), frames_of_samples(len(self.samples)))
        num_samples = min(num_frames * SAMPLES_PER_FRAME, len(self.samples))
        end_s = num_samples / SAMPLE_RATE_HZ
        return HeldSpeech(
            name=self.name,
            samples=self.samples[:num_samples],
            phonemes=tuple(phoneme for phoneme in self.phonemes if phoneme.end_s <= end_s),
            motion=self.motion[:num_frames],
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Material:
    """Portraits and recordings; `pairs` brings them together."""

    portraits: tuple[HeldPortrait, ...]
    speeches: tuple[HeldSpeech, ...]

    def __post_init__(self) -> None:
        """Refuse an empty set: nothing can be measured on it."""
        if not self.portraits or not self.speeches:
            raise DataError(
                f"got {len(self.portraits)} portraits and {len(self.speeches)} recordings to evaluate on; expected one "
                "of each at least: give folders with more"
            )

    def pairs(self, num_pairs: int) -> list[tuple[HeldPortrait, HeldSpeech]]:
        """Portraits with recordings, each as rarely repeated as can be; always the same."""
        return [(pick(self.portraits, i), pick(self.speeches, i)) for i in range(num_pairs)]


def pick(items: Sequence[T], index: int) -> T:
    """The item at `index`, counted round and round."""
    return items[index % len(items)]


def spread(items: Sequence[T], count: int) -> list[T]:
    """`count` items at even distances, or all where there are fewer."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]
