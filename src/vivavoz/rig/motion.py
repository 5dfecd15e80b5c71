"""The motion of a talking portrait: one row of named numbers per frame."""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vivavoz.errors import DataError

MOTION: Final[tuple[str, ...]] = (
    "jaw",
    "wide",
    "pucker",
    "press",
    "lower_in",
    "upper_raise",
    "tongue",
    "smile",
    "blink_left",
    "blink_right",
    "gaze_x",
    "gaze_y",
    "brow",
    "yaw",
    "pitch",
    "roll",
    "shift_x",
    "shift_y",
    "scale",
    "breath",
    "light",
    "brow_inner",
    "lids",
    "sneer",
)
"""Columns of a motion array, in order.

Absolute (the same for every portrait): jaw [0, 1] (0 lips closed, 1 as wide as loud speech, a gap of 0.16 face heights),
press [0, 1] (lips shut whatever the jaw does: p b m), lower_in [0, 1] (lower lip under the upper teeth: f v), upper_raise
[0, 1], tongue [0, 1] (tip at the upper teeth), blink_left, blink_right [0, 1] (1 shut; left and right of the picture).

Relative to the portrait: wide [-1, 1], pucker [0, 1], smile [-1, 1], gaze_x (right of the picture), gaze_y (up) [-1, 1],
brow [-1, 1] (up), yaw (nose to the right of the picture), pitch (chin up), roll (top of the head to the right) in degrees,
shift_x, shift_y (right, down) of the camera and breath (shoulders up) in face heights, its scale and light as logarithms;
brow_inner (inner ends up) [-1, 1], lids (eyes wide, or narrowed) [-1, 1], sneer (nose wrinkled) [0, 1].
"""

COLUMN: Final[dict[str, int]] = {name: index for index, name in enumerate(MOTION)}
"""Column index by name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Motion:
    """A clip's motion: `values` (F, len(MOTION)) float32, one row per frame at 25 frames per second."""

    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse anything that is not a float32 table of finite numbers with one column per name."""
        if self.values.ndim != 2 or self.values.shape[1] != len(MOTION) or self.values.dtype != np.float32:
            raise DataError(
                f"motion of shape {self.values.shape} and type {self.values.dtype}; expected (frames, {len(MOTION)}) float32,"
                " build it with Motion.zeros or Motion.from_columns"
            )
        if not np.isfinite(self.values).all():
            raise DataError("motion holds numbers that are not finite; expected finite values, check what produced it")

    @classmethod
    def zeros(cls, num_frames: int) -> "Motion":
        """Rest: lips closed, looking ahead, the head as in the portrait."""
        return cls(np.zeros((num_frames, len(MOTION)), np.float32))

    @classmethod
    def from_columns(cls, num_frames: int, columns: dict[str, NDArray[np.floating] | float]) -> "Motion":
        """Motion with the named columns (each (num_frames,) or one number) and zeros elsewhere.

        Raises:
            DataError: a name is not in MOTION, or a column has another length.
        """
        values = np.zeros((num_frames, len(MOTION)), np.float32)
        for name, column in columns.items():
            if name not in COLUMN:
                raise DataError(f"motion column {name!r} is unknown; expected one of {', '.join(MOTION)}")
            if np.ndim(column) and np.shape(column) != (num_frames,):
                raise DataError(f"motion column {name!r} has shape {np.shape(column)}; expected ({num_frames},)")
            values[:, COLUMN[name]] = column
        return cls(values)

    def column(self, name: str) -> NDArray[np.float32]:
        """One column by name, (F,), a view."""
        return self.values[:, COLUMN[name]]

    def __len__(self) -> int:
        return len(self.values)
