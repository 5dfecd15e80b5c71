"""Presets: everything that fixes a model and how it is sampled, in one place, with a name."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

from vivavoz.audio.encoder import AudioEncoderConfig
from vivavoz.config_json import from_plain, to_plain
from vivavoz.errors import ConfigError
from vivavoz.generator.config import (
    BLOCK_SIZES,
    GeneratorConfig,
    lite_generator_config,
    paper_generator_config,
    tiny_generator_config,
)
from vivavoz.rig.labels import LABELS
from vivavoz.vae.config import VAEConfig, lite_vae_config, paper_vae_config, tiny_vae_config

FORMAT_VERSION = 1
"""Version of the JSON form, and of the weights that lie beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How latents are drawn; may be changed from stream to stream. The defaults are the paper's (supplement A and B)."""

    num_steps: int = 12
    """Euler steps per block."""
    timestep_shift: float = 5.0
    """How far the steps crowd towards noise; 1 spaces them evenly."""
    guidance_audio: float = 2.0
    """`la` of equation (I); 1: no guidance."""
    guidance_reference: float = 2.0
    """`lr` of equation (I); 1: no guidance."""
    block_latents: int = 4
    """Latent frames generated together."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ConfigError(f"num_steps is {self.num_steps}, expected at least 1: choose a positive number of steps")
        if not (math.isfinite(self.timestep_shift) and self.timestep_shift > 0):
            raise ConfigError(f"timestep_shift is {self.timestep_shift}, expected a positive number: 1 spaces steps evenly")
        for name in ("guidance_audio", "guidance_reference"):
            scale = getattr(self, name)
            if not (math.isfinite(scale) and scale >= 0):
                raise ConfigError(f"{name} is {scale}, expected a number of at least 0: 1 switches it off, 2 is usual")
        if self.block_latents not in BLOCK_SIZES:
            raise ConfigError(f"block_latents is {self.block_latents}, expected one of {BLOCK_SIZES}: choose one of these")

    @property
    def is_guided(self) -> bool:
        """Whether any branch beside the fully conditioned one is needed."""
        return self.guidance_audio != 1 or self.guidance_reference != 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A model: its parts' sizes, how it is sampled, and the sides of its square pictures."""

    name: str
    vae: VAEConfig
    generator: GeneratorConfig
    audio: AudioEncoderConfig
    sampling: SamplingConfig
    working_size: int
    """Side of the pictures the VAE sees, in pixels; a multiple of 64."""
    output_size: int
    """Side of the pictures that come out, in pixels. Differs from `working_size` only with a reference warp."""
    posed_jaws: tuple[float, ...] = ()
    """Beyond the paper: of a person of whom there is one portrait, the references are that portrait with the jaw so far down,
    from 0 (lips shut) to 1 (docs/adr/0017-posed-portraits.md). Empty: the portrait as it is."""
    posed_cover: float = 0.0
    """Added to the logits of the painted layer's mask where a portrait is posed: the references then show the open mouth, and
    little is left to be painted."""

    def __post_init__(self) -> None:
        most, labels = self.generator.max_references, len(LABELS)
        if len(self.posed_jaws) > most or any(not 0 <= jaw <= 1 for jaw in self.posed_jaws):
            raise ConfigError(f"posed_jaws is {self.posed_jaws}, expected at most {most} numbers from 0 to 1: change it")
        if self.posed_jaws and self.vae.frame_codes != labels:
            raise ConfigError(
                f"posed_jaws takes a VAE whose frame codes are the {labels} labels, this one has {self.vae.frame_codes}: "
                "leave it empty"
            )
        if self.working_size < 64 or self.working_size % 64:
            raise ConfigError(f"working_size is {self.working_size}, expected a positive multiple of 64: change it")
        if self.vae.warp is None and self.output_size != self.working_size:
            raise ConfigError(
                f"output_size {self.output_size} differs from working_size {self.working_size}, which takes a reference warp: "
                "make them equal, or set vae.warp"
            )
        if self.output_size < 64 or self.output_size % 2:
            raise ConfigError(f"output_size is {self.output_size}, expected an even number of at least 64: change it")
        _check_equal("latent_channels of the VAE", self.vae.latent_channels, "of the generator", self.generator.latent_channels)
        _check_equal("features of the audio encoder", self.audio.num_features, "of the generator", self.generator.audio_features)
        if self.sampling.block_latents > self.generator.block_latents:
            raise ConfigError(
                f"sampling.block_latents is {self.sampling.block_latents}, but the generator makes blocks of at most "
                f"{self.generator.block_latents}: lower it"
            )

    @property
    def lone_references(self) -> int:
        """References that a single portrait becomes."""
        return max(1, len(self.posed_jaws))

    def to_json(self) -> str:
        """The preset as JSON text, `from_json`'s counterpart."""
        return json.dumps({"format_version": FORMAT_VERSION, **to_plain(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Preset:
        """Read `to_json`'s text. Raises `ConfigError` for anything else: damage, another format version, unknown keys."""
        try:
            data: Any = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"not a preset: {error}; expected the JSON that vivavoz writes beside weights") from error
        if not isinstance(data, dict) or "format_version" not in data:
            raise ConfigError("not a preset: no format_version; expected the JSON that vivavoz writes beside weights")
        if (version := data.pop("format_version")) != FORMAT_VERSION:
            raise ConfigError(f"preset has format version {version!r}, expected {FORMAT_VERSION}: use a matching vivavoz release")
        return from_plain(cls, data, "preset")


def paper() -> Preset:
    """The published model: 512 x 512, speed and training at scale."""
    return Preset(
        name="paper",
        vae=paper_vae_config(),
        generator=paper_generator_config(),
        audio=AudioEncoderConfig(),
        sampling=SamplingConfig(),
        working_size=512,
        output_size=512,
    )


def lite() -> Preset:
    """The embedded default: sees 192 x 192, warps the portraits' own 512 x 512 pixels, runs on two CPU cores."""
    return Preset(
        name="lite",
        vae=lite_vae_config(),
        generator=lite_generator_config(),
        audio=AudioEncoderConfig(channels=(16, 32, 64, 128), num_features=128),
        # A student's, into whom the guidance went; see vivavoz.train.student_recipes.
        sampling=SamplingConfig(num_steps=2, timestep_shift=2.0, guidance_audio=1.0, guidance_reference=1.0),
        working_size=192,
        output_size=512,
        posed_jaws=(0.0, 0.6),
        posed_cover=-3.0,
    )


def tiny(*, warp: bool = False) -> Preset:
    """For tests: every part present, as small as it gets; with `warp`, the reference warp to twice the working size."""
    return Preset(
        name="tiny",
        vae=tiny_vae_config(warp=warp),
        generator=replace(tiny_generator_config(), latent_channels=8, audio_features=16),
        audio=AudioEncoderConfig(channels=(4, 4, 8, 8), num_features=16),
        sampling=SamplingConfig(num_steps=2),
        working_size=64,
        output_size=128 if warp else 64,
    )


PRESETS = {"paper": paper, "lite": lite, "tiny": tiny}
"""The presets there are, by name."""


def preset_by_name(name: str) -> Preset:
    """The preset called `name`. Raises `ConfigError` for any other name."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def _check_equal(what: str, mine: int, whose: str, theirs: int) -> None:
    if mine != theirs:
        raise ConfigError(f"{what} ({mine}) and {whose} ({theirs}) differ: make them equal")
