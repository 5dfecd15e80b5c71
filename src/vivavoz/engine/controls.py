"""What a face shall do beside speaking, as a caller says it: once for all, again and again, or as a track over time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, get_args

import torch

from vivavoz.errors import ConfigError
from vivavoz.generator.conditioning import Controls
from vivavoz.generator.config import GeneratorConfig
from vivavoz.timing import FRAME_RATE, frames_of_latents

State = Literal["speaking", "listening", "idle"]
STATES: tuple[State, ...] = get_args(State)
"""States in the order of the generator's classes."""

Expression = Literal["neutral", "happy", "sad", "angry", "surprised", "afraid", "disgusted"]
EXPRESSIONS: tuple[Expression, ...] = get_args(Expression)
"""Expressions in the order of the generator's classes."""


class Wishes(Protocol):
    """What a stream asks, block by block, what the face shall do."""

    def check(self, config: GeneratorConfig) -> None:
        """Raise `ConfigError` if a generator of this size cannot follow."""

    def to_latents(self, first_latent: int, num_latents: int, device: torch.device) -> Controls:
        """Wishes for latent frames from `first_latent` of the stream on, batch 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamControls:
    """Wishes that hold until others are given; what is None is left to the model."""

    state: State | None = None
    expression: Expression | None = None
    expression_intensity: float = 1.0
    """How strongly it shows, 0 to 1."""
    gaze_rad: tuple[float, float] | None = None
    """Yaw (to the right of the picture) and pitch (up) of the eyes."""
    head_pose_rad: tuple[float, float, float] | None = None
    """Yaw (nose to the right of the picture), pitch (chin up) and roll (top of the head to the right)."""

    def __post_init__(self) -> None:
        for name, known in (("state", STATES), ("expression", EXPRESSIONS)):
            wish = getattr(self, name)
            if wish is not None and wish not in known:
                raise ConfigError(f"{name} is {wish!r}, expected one of {', '.join(known)}")
        if not 0 <= self.expression_intensity <= 1:
            raise ConfigError(f"expression_intensity is {self.expression_intensity}, expected a number from 0 to 1")
        for name, count in (("gaze_rad", 2), ("head_pose_rad", 3)):
            angles = getattr(self, name)
            if angles is not None and (len(angles) != count or not all(map(math.isfinite, angles))):
                raise ConfigError(f"{name} is {angles}, expected {count} angles in radians")

    def check(self, config: GeneratorConfig) -> None:
        """Raise `ConfigError` if a generator of this size cannot follow."""
        if not config.controls:
            raise ConfigError("got controls, but this preset has none: leave them out or use a preset with controls")

    def to_latents(self, first_latent: int, num_latents: int, device: torch.device) -> Controls:
        """The same wishes for every latent."""
        return _controls([self] * num_latents, device)


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlTrack:
    """Wishes over time: each holds from its time to the next. Angles and intensity glide on to the next wish's, where it has them
    too (and, for the intensity, the same expression)."""

    times_s: tuple[float, ...]
    """Rising, from the stream's start. Before the first nothing is asked."""
    wishes: tuple[StreamControls, ...]

    def __post_init__(self) -> None:
        if not self.times_s or len(self.times_s) != len(self.wishes):
            raise ConfigError(f"got {len(self.times_s)} times and {len(self.wishes)} wishes, expected as many, and one at least")
        if not all(math.isfinite(time_s) for time_s in self.times_s) or any(a >= b for a, b in pairwise(self.times_s)):
            raise ConfigError("the times of a control track do not rise; sort its rows by time, each time once")

    def check(self, config: GeneratorConfig) -> None:
        """Raise `ConfigError` if a generator of this size cannot follow."""
        self.wishes[0].check(config)

    def at(self, time_s: float) -> StreamControls:
        """What is asked at a time."""
        index = bisect_right(self.times_s, time_s) - 1
        if index < 0:
            return StreamControls()
        now = self.wishes[index]
        if index + 1 == len(self.wishes):
            return now
        then = self.wishes[index + 1]
        share = (time_s - self.times_s[index]) / (self.times_s[index + 1] - self.times_s[index])
        same = now.expression is not None and now.expression == then.expression
        intensities = (now.expression_intensity, then.expression_intensity if same else now.expression_intensity)
        return StreamControls(
            state=now.state,
            expression=now.expression,
            expression_intensity=intensities[0] + share * (intensities[1] - intensities[0]),
            gaze_rad=_between(now.gaze_rad, then.gaze_rad, share),
            head_pose_rad=_between(now.head_pose_rad, then.head_pose_rad, share),
        )

    def to_latents(self, first_latent: int, num_latents: int, device: torch.device) -> Controls:
        """What is asked in the middle of every latent's pictures."""
        ends = [frames_of_latents(number) for number in range(first_latent, first_latent + num_latents + 1)]
        return _controls([self.at((first + end) / 2 / FRAME_RATE) for first, end in pairwise(ends)], device)


def _controls(wishes: Sequence[StreamControls], device: torch.device) -> Controls:
    """A wish for each of N latent frames, batch 1; what nobody asks for is masked out."""

    def column(values: list[float | int | tuple[float, ...]]) -> torch.Tensor:
        return torch.tensor([values], device=device)

    return Controls(
        state=column([0 if wish.state is None else STATES.index(wish.state) for wish in wishes]),
        expression=column([0 if wish.expression is None else EXPRESSIONS.index(wish.expression) for wish in wishes]),
        expression_intensity=column([float(wish.expression_intensity) for wish in wishes]),
        gaze=column([wish.gaze_rad or (0.0, 0.0) for wish in wishes]),
        head_pose=column([wish.head_pose_rad or (0.0, 0.0, 0.0) for wish in wishes]),
        present=column(
            [
                tuple(value is not None for value in (wish.state, wish.expression, wish.gaze_rad, wish.head_pose_rad))
                for wish in wishes
            ]
        ),
    )


def _between(now: tuple[float, ...] | None, then: tuple[float, ...] | None, share: float):  # type: ignore[no-untyped-def]
    if now is None or then is None:
        return now
    return tuple(a + share * (b - a) for a, b in zip(now, then, strict=True))
