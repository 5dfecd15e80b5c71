"""What passes between a timeline, the maker of its pictures, and those who show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vivavoz.engine.controls import State
from vivavoz.media.image import Pixels
from vivavoz.serve.sound import Pcm


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moment:
    """What is shown and heard for 40 ms."""

    index: int
    """0 for the session's first."""
    image: Pixels
    sound: Pcm
    """`(960,)` at 24 kHz."""
    state: State
    is_repeat: bool
    """Whether the picture is the one before, for want of its own."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Order:
    """A block of pictures to be made."""

    restarts: bool
    """Whether the stream is to be interrupted first: the sound then begins with the block's first picture."""
    num_skipped: int
    """Pictures to be left out before the block; the sound has theirs too."""
    sound: Pcm
    """To be pushed."""
    state: State
    num_steps: int
    block_latents: int
    epoch: int
    """Counts interruptions: pictures of an earlier epoch are not shown."""
    wanted_at_s: float
    ordered_at_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechEvent:
    """Something that happened to an utterance."""

    id: str
    kind: Literal["started", "finished", "cancelled"]
    played_s: float
