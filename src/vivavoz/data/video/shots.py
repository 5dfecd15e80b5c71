"""Where one shot ends and the next begins.

Legend: F pictures at 25 a second, S numbers that stand for a picture.
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.media.image import Pixels

_SIDE_PX: Final = 24
_CERTAIN: Final = 45.0
"""Mean difference of two thumbnails, in grey levels, that no movement of a person reaches."""
_STANDS_OUT: Final = 9.0
"""Mean difference that is a cut if it also stands out of its neighbourhood."""
_RATIO: Final = 4.0
_NEAR_FRAMES: Final = 12


def thumbnail(image: Pixels) -> NDArray[np.float32]:
    """A picture `(H, W, 3)` uint8 made small, (S,): what `change` compares."""
    small = cv2.resize(image, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).ravel()


def change(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Mean difference of two thumbnails (S,), in grey levels."""
    return float(np.abs(after - before).mean())


def find_cuts(changes: Sequence[float]) -> list[int]:
    """Indices of the pictures that begin a new shot, the first picture left out.

    Hard cuts only: a slow dissolve shows as a face that changes, which the filters of a clip notice.

    Args:
        changes: from each picture to the next, F - 1 numbers.
    """
    cuts = []
    for index, value in enumerate(changes):
        near = [*changes[max(0, index - _NEAR_FRAMES) : index], *changes[index + 1 : index + 1 + _NEAR_FRAMES]]
        usual = float(np.percentile(near, 90)) if near else 0.0
        if value >= _CERTAIN or (value >= _STANDS_OUT and value >= _RATIO * usual):
            cuts.append(index + 1)
    return cuts
