"""What a noised latent is told: audio (a') and, optionally, controls.

`B` rows, `N` latent frames, `F` audio features per picture, `A` channels of a'. Audio arrives grouped per latent frame,
`(B, N, 4, F)`; the video's very first latent stands for one picture and uses the last of its four places only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from vivavoz.errors import AudioError
from vivavoz.generator.config import GeneratorConfig
from vivavoz.timing import FRAMES_PER_LATENT

CONTROL_NAMES = ("state", "expression", "gaze", "head_pose")
"""Order of the controls in `Controls.present`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """Wishes per latent frame; what is None is left to the model (its learned null embedding)."""

    state: Tensor | None = None
    """`(B, N)` int64: 0 speaking, 1 listening, 2 idle."""
    expression: Tensor | None = None
    """`(B, N)` int64 class; goes with `expression_intensity`."""
    expression_intensity: Tensor | None = None
    """`(B, N)` float in [0, 1]; None means 1."""
    gaze: Tensor | None = None
    """`(B, N, 2)` yaw and pitch of the eyes in radians."""
    head_pose: Tensor | None = None
    """`(B, N, 3)` yaw, pitch and roll of the head in radians."""
    present: Tensor | None = None
    """`(B, N, 4)` bool in the order of `CONTROL_NAMES`: False takes the null embedding although a value is given; None: all."""

    @staticmethod
    def joined(rows: Sequence[Controls]) -> Controls:
        """The rows of several, one after the other; all of them give the same fields."""
        given = {field.name: [getattr(row, field.name) for row in rows] for field in fields(Controls)}
        return Controls(**{name: torch.cat(values) for name, values in given.items() if values[0] is not None})


def group_audio(features: Tensor, *, starts_video: bool) -> Tensor:
    """Group audio features per picture `(B, frames, F)` by latent frame: `(B, N, 4, F)`.

    `starts_video`: the first latent is the video's first and stands for one picture, `frames = 1 + 4 (N - 1)`; it is padded
    with zeros in front. Otherwise `frames = 4 N`. Raises `AudioError` when the number of frames does not fit.
    """
    num_frames = features.shape[1]
    padding = FRAMES_PER_LATENT - 1 if starts_video else 0
    if num_frames == 0 or (num_frames + padding) % FRAMES_PER_LATENT:
        expected = "1 + 4 (N - 1)" if starts_video else "4 N"
        raise AudioError(f"got audio features of {num_frames} pictures, expected {expected} for N latents: cut or pad the sound")
    padded = torch.cat([features.new_zeros(features.shape[0], padding, features.shape[2]), features], 1)
    return padded.reshape(features.shape[0], -1, FRAMES_PER_LATENT, features.shape[2])


class AudioEmbedder(nn.Module):
    """Two MLPs to a': one for the first latent's single picture, one for the four pictures of a later latent (section 4.1)."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        hidden = 2 * config.audio_channels
        self.first = _mlp(config.audio_features, hidden, config.audio_channels)
        self.later = _mlp(FRAMES_PER_LATENT * config.audio_features, hidden, config.audio_channels)
        self.null = nn.Parameter(0.02 * torch.randn(config.audio_channels))

    def forward(self, audio: Tensor, starts_video: Tensor, drop: Tensor | None = None) -> Tensor:
        """Grouped features `(B, N, 4, F)` to a' `(B, N, A)`; rows of `starts_video`, `(B,)` bool, begin the video.

        Rows of `drop`, `(B,)` bool, get the learned null embedding.
        """
        embedded = self.later(audio.flatten(2))
        first = self.first(audio[:, :1, -1])
        embedded = torch.cat([torch.where(starts_video[:, None, None], first, embedded[:, :1]), embedded[:, 1:]], 1)
        if drop is not None:
            embedded = torch.where(drop[:, None, None], self.null.to(embedded.dtype), embedded)
        return embedded


class ControlEmbedder(nn.Module):
    """The four controls as extra channels beside a', each with a null embedding of its own."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        channels, self.angle_gain = config.control_channels, config.angle_gain
        self.state = nn.Embedding(config.num_states, channels)
        self.expression = nn.Embedding(config.num_expressions, channels)
        self.gaze = nn.Linear(2, channels)
        self.head_pose = nn.Linear(3, channels)
        self.null = nn.Parameter(0.02 * torch.randn(len(CONTROL_NAMES), channels))

    def forward(self, controls: Controls, batch_size: int, num_latents: int) -> Tensor:
        """`(B, N, 4 * control_channels)`."""
        embedded: list[Tensor | None] = [
            None if controls.state is None else self.state(controls.state),
            self._embed_expression(controls),
            self._embed_angles(self.gaze, controls.gaze),
            self._embed_angles(self.head_pose, controls.head_pose),
        ]
        channels = []
        for index, value in enumerate(embedded):
            null = self.null[index].expand(batch_size, num_latents, -1)
            if value is None:
                channels.append(null)
            elif controls.present is None:
                channels.append(value)
            else:
                channels.append(torch.where(controls.present[:, :, index, None], value, null))
        return torch.cat(channels, -1)

    def _embed_angles(self, layer: nn.Linear, angles: Tensor | None) -> Tensor | None:
        if angles is None:
            return None
        embedded: Tensor = layer(self.angle_gain * angles.to(layer.weight.dtype))
        return embedded

    def _embed_expression(self, controls: Controls) -> Tensor | None:
        if controls.expression is None:
            return None
        embedded: Tensor = self.expression(controls.expression)
        if controls.expression_intensity is None:
            return embedded
        return embedded * controls.expression_intensity[..., None].to(embedded.dtype)


def _mlp(in_channels: int, hidden_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_channels, hidden_channels), nn.SiLU(), nn.Linear(hidden_channels, out_channels))
