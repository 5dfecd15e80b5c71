"""One smooth step, used wherever a weight fades in."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def smoothstep(low: float, high: float, x: ArrayLike) -> NDArray[np.float32]:
    """0 below `low`, 1 above `high`, a cubic with level ends between; the shape of `x`, float32."""
    t = np.clip((np.asarray(x, np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
