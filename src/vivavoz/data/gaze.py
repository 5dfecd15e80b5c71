"""Where eyes look, from where their irises lie."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_RADIUS: Final = 0.42
"""Of an eyeball in widths of the eye's opening: 12 mm over about 29 mm."""
_LEVEL: Final = 0.065
"""How far above the line of its corners the iris of a level gaze lies, in eye widths."""


def gaze_angles(irises: NDArray[np.floating]) -> NDArray[np.float32]:
    """Yaw to the right and pitch up in rad, (T, 2), of irises (T, 2) eye widths right of and above the middle of their eyes."""
    sine = (irises - np.array([0, _LEVEL], irises.dtype)) / _RADIUS
    return np.arcsin(np.clip(sine, -0.95, 0.95)).astype(np.float32)
