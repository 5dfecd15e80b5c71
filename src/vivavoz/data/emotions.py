"""What a person feels, and how it shows in the face: seven expressions that come, hold and go.

Legend: `F` pictures at 25 per second, `E` expressions.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from vivavoz.data.gestures import glide
from vivavoz.errors import DataError
from vivavoz.timing import FRAME_RATE

Track = npt.NDArray[np.floating]


class Expression(IntEnum):
    """The class of a face's expression."""

    NEUTRAL = 0
    HAPPY = 1
    SAD = 2
    ANGRY = 3
    SURPRISED = 4
    AFRAID = 5
    DISGUSTED = 6


SHAPES: Final[dict[Expression, dict[str, float]]] = {
    Expression.NEUTRAL: {},
    Expression.HAPPY: {"smile": 0.9, "wide": 0.25, "lids": -0.35, "brow": 0.08},
    Expression.SAD: {"smile": -1.0, "wide": -0.3, "brow_inner": 1.0, "brow": -0.1, "lids": -0.5, "gaze_y": -0.3, "pitch": -3.5},
    Expression.ANGRY: {"brow": -0.9, "brow_inner": -0.6, "lids": -0.3, "smile": -0.5, "upper_raise": 0.12, "pitch": -1.5},
    Expression.SURPRISED: {"brow": 1.0, "brow_inner": 0.25, "lids": 1.0, "jaw": 0.3, "pitch": 1.0},
    Expression.AFRAID: {"brow": 0.5, "brow_inner": 0.8, "lids": 0.75, "wide": 0.4, "smile": -0.6, "jaw": 0.12, "pitch": 0.8},
    Expression.DISGUSTED: {
        "sneer": 1.0,
        "upper_raise": 0.75,
        "brow": -0.7,
        "lids": -0.9,
        "smile": -0.7,
        "wide": -0.15,
        "pitch": 1.5,
    },
}
"""What each expression adds to the motion at full intensity. `jaw` counts only while nothing is said: it is a slack mouth."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Feelings:
    """How strongly each expression shows in F pictures: `weights` float64 (F, E) in [0, 1]; neutral has no weight."""

    weights: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse anything but a table with one column per expression, and weights out of range."""
        if self.weights.ndim != 2 or self.weights.shape[1] != len(Expression):
            raise DataError(f"feelings of shape {self.weights.shape}; expected (frames, {len(Expression)}), see random_feelings")
        if self.weights.size and (self.weights.min() < 0 or self.weights.max() > 1):
            raise DataError("feelings outside of 0 to 1; expected intensities in [0, 1]")

    @classmethod
    def none(cls, num_frames: int) -> "Feelings":
        """A neutral face throughout."""
        return cls(weights=np.zeros((num_frames, len(Expression))))

    @classmethod
    def hold(cls, num_frames: int, expression: Expression, intensity: float) -> "Feelings":
        """One expression throughout."""
        weights = np.zeros((num_frames, len(Expression)))
        weights[:, expression] = intensity if expression else 0.0
        return cls(weights=weights)

    def expressions(self) -> npt.NDArray[np.uint8]:
        """The expression that shows most in each picture, (F,): neutral where none reaches a tenth."""
        strongest = self.weights.argmax(1)
        return np.where(self.weights.max(1, initial=0.0) < 0.1, Expression.NEUTRAL, strongest).astype(np.uint8)

    def intensities(self) -> npt.NDArray[np.float32]:
        """How strongly it shows, (F,); 0 where the face is neutral."""
        strongest = self.weights.max(1, initial=0.0)
        return np.where(strongest < 0.1, 0.0, strongest).astype(np.float32)

    def added(self, name: str) -> Track:
        """What the expressions together add to a column of motion, (F,)."""
        return self.weights @ np.array([SHAPES[expression].get(name, 0.0) for expression in Expression])


def random_feelings(num_frames: int, *, seed: int, neutral_share: float = 0.35) -> Feelings:
    """Feelings that change every few seconds, each fading into the next; about `neutral_share` of the time none."""
    rng = np.random.default_rng([seed, 0xFEE1])
    times_s: list[float] = []
    targets: list[npt.NDArray[np.float64]] = []
    time_s = -1.0  # the first has fully come when the clip begins
    while time_s < num_frames / FRAME_RATE:
        target = np.zeros(len(Expression))
        if rng.random() >= neutral_share:
            target[int(rng.integers(1, len(Expression)))] = rng.uniform(0.25, 1.0)
        times_s.append(time_s)
        targets.append(target)
        time_s += rng.uniform(2.0, 6.0)
    table = np.stack(targets)
    move_s = rng.uniform(0.4, 0.9)
    weights = [glide(num_frames, times_s, table[:, index].tolist(), move_s=move_s) for index in range(len(Expression))]
    return Feelings(weights=np.clip(np.stack(weights, 1), 0.0, 1.0))
