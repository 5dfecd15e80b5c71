"""The whole model: VAE, generator and audio encoder, and how to come by one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from vivavoz.audio.features import AudioFeatures
from vivavoz.engine.runtime import Runtime, RuntimeName, make_runtime
from vivavoz.generator.generator import Generator
from vivavoz.media.image import Pixels
from vivavoz.presets import Preset
from vivavoz.vae.vae import VAE

if TYPE_CHECKING:
    from vivavoz.engine.avatar import Avatar


class Model(nn.Module):
    """Owns the weights of one preset. Streams own all that changes, so any number of them share one model."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.vae = VAE(preset.vae)
        self.generator = Generator(preset.generator)
        self.audio = AudioFeatures(preset.audio)
        self.runtime: Runtime = make_runtime(self, "eager")

    @classmethod
    def initialised(cls, preset: Preset, seed: int = 0) -> Model:
        """A model with random weights, in eval mode: for tests, benchmarks, and the start of training. It draws no portraits."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return cls(preset).eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.generator.latent_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type the VAE and the generator compute in. Hearing stays in float32."""
        return self.generator.dtype

    def to_compute(self, device: torch.device | str, dtype: torch.dtype) -> Model:
        """Move to `device`, and the VAE and the generator to `dtype`, in place. Mel levels span 100 dB and stay float32."""
        self.to(device)
        self.vae.to(dtype)
        self.generator.to(dtype)
        return self

    def use_runtime(self, name: RuntimeName) -> None:
        """How streams opened from now on run their steps: `auto`, the fastest of those that start at once
        (`runtime.fastest_runtime`), or another of `runtime_names` (docs/performance.md). Raises `ConfigError` for one that does
        not go with the machine or the model."""
        self.runtime = make_runtime(self, name)

    def avatar(
        self,
        images: str | os.PathLike[str] | Pixels | Sequence[str | os.PathLike[str] | Pixels],
        crop: Literal["auto", "none"] = "auto",
        size: int | None = None,
        *,
        posed: bool = True,
    ) -> Avatar:
        """Prepare a person: crop and encode the portraits once; the result serves any number of streams.

        Args:
            images: 1 to `max_references` portraits of one person: paths, or `(H, W, 3)` uint8 RGB arrays. Or the path of a
                `.safetensors` file that `Avatar.save` wrote.
            crop: `auto` finds the face and frames it, `none` takes the centre square.
            size: side of the video in pixels (None: the preset's).
            posed: show the decoder a lone portrait with its lips shut and with its mouth open, where the preset asks for that and
                a face is found (`vivavoz.rig.posing`); False: as it is.

        Raises:
            ImageError: a picture that cannot be read or has no face; too many or no pictures.
            ConfigError: a size the preset cannot make.
            WeightsError: an avatar's file that is damaged, or was made with other weights.
        """
        from vivavoz.engine.avatar import make_avatar

        return make_avatar(self, images, crop, size, posed=posed)
