"""What a face shall do beside speaking, as a caller says it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from vivavoz.errors import ConfigError
from vivavoz.generator.conditioning import Controls
from vivavoz.generator.config import GeneratorConfig

States = Literal["speaking", "listening", "idle"]
STATES: tuple[States, ...] = ("speaking", "listening", "idle")
"""States in the order of the generator's classes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamControls:
    """Wishes that hold until others are given; what is None is left to the model."""

    state: States | None = None
    expression: int | None = None
    """Class of the expression, as the model was trained."""
    expression_intensity: float = 1.0
    """How strongly it shows, 0 to 1."""
    gaze_rad: tuple[float, float] | None = None
    """Yaw and pitch of the eyes."""
    head_pose_rad: tuple[float, float, float] | None = None
    """Yaw, pitch and roll of the head."""

    def __post_init__(self) -> None:
        if self.state is not None and self.state not in STATES:
            raise ConfigError(f"state is {self.state!r}, expected one of {', '.join(STATES)}")
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
        if self.expression is not None and not 0 <= self.expression < config.num_expressions:
            raise ConfigError(f"expression is {self.expression}, expected a class from 0 to {config.num_expressions - 1}")

    def to_latents(self, num_latents: int, device: torch.device) -> Controls:
        """The same wish for each of `num_latents` latent frames, batch 1."""

        def per_latent(value: tuple[float, ...] | None) -> torch.Tensor | None:
            return None if value is None else torch.tensor(value, device=device).expand(1, num_latents, -1)

        def classes(value: int | None) -> torch.Tensor | None:
            return None if value is None else torch.full((1, num_latents), value, device=device)

        return Controls(
            state=classes(None if self.state is None else STATES.index(self.state)),
            expression=classes(self.expression),
            expression_intensity=torch.full((1, num_latents), self.expression_intensity, device=device),
            gaze=per_latent(self.gaze_rad),
            head_pose=per_latent(self.head_pose_rad),
        )
