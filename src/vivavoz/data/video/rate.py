"""Any frame rate to 25 pictures a second: each output picture is the source's nearest in time, never a blend.

Legend: `H W 3` uint8 RGB; times are seconds as `Fraction`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from vivavoz.media.image import Pixels
from vivavoz.timing import FRAME_RATE


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Picture:
    """One picture at the constant rate."""

    index: int
    """On the clock of 25 pictures a second that starts with the source's first frame."""
    image: Pixels
    """`(H, W, 3)` uint8 RGB."""
    source_index: int
    """Of the source's frame it is; two pictures that share one show a picture that stood still."""


def at_constant_rate(frames: Iterable[tuple[Fraction, Pixels]]) -> Iterator[Picture]:
    """Pictures at 25 per second from frames with their times, in order; frames whose time does not rise are passed over.

    A source of 25 frames a second comes out as it went in. Faster ones lose frames, slower ones repeat some.
    """
    step, half = Fraction(1, FRAME_RATE), Fraction(1, 2 * FRAME_RATE)
    before: tuple[Fraction, Pixels] | None = None
    before_index = number = 0
    start = Fraction(0)
    for source_index, (time, image) in enumerate(frames):
        if before is None:
            start = time
        else:
            if time <= before[0]:
                continue
            while (due := start + number * step) - before[0] <= time - due:
                yield Picture(index=number, image=before[1], source_index=before_index)
                number += 1
        before, before_index = (time, image), source_index
    if before is not None:
        while start + number * step - before[0] < half:
            yield Picture(index=number, image=before[1], source_index=before_index)
            number += 1
