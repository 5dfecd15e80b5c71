"""Sizes of the generator."""

from __future__ import annotations

from dataclasses import dataclass

from vivavoz.errors import ConfigError

BLOCK_SIZES = (1, 2, 4)
"""Numbers of latent frames that may be generated together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """Architecture of `Generator`. The spatial size of the latents is not part of it: any grid works."""

    latent_channels: int = 64
    """Channels of the VAE's latent."""
    width: int
    """Channels of a token."""
    depth: int
    """Transformer blocks."""
    num_heads: int
    """Attention heads."""
    head_dim: int
    """Channels of a head; even, at least 6 so that time, row and column each get a rotated plane."""
    mlp_ratio: float = 4.0
    """Hidden width of a block's MLP over `width`."""
    audio_features: int = 512
    """Features of the audio encoder per picture."""
    audio_channels: int
    """Channels of the compressed audio features a'."""
    block_latents: int = 4
    """Most latent frames that are generated together; smaller blocks are chosen per call."""
    window_latents: int = 32
    """Latent frames that share one cache."""
    max_references: int = 3
    """Most reference portraits."""
    controls: bool = False
    """Whether state, expression, gaze and head pose can be set per latent frame."""
    num_states: int = 3
    """Classes of the state control: speaking, listening, idle."""
    num_expressions: int = 7
    """Classes of the expression control."""
    control_channels: int = 16
    """Channels of each of the four controls beside a'."""
    homing: tuple[tuple[int, float], ...] = ()
    """Beyond the paper: channels of a latent, and by what share (0 to 1) every block brings them nearer to the first reference's
    (`vivavoz.engine.blocks`). What changes slowly in training's short windows drifts in a stream of minutes. 1 holds it still;
    less is nothing while an expression is asked for."""
    angle_gain: float = 1.0
    """What angles of gaze and head pose are multiplied by: most are a tenth of a radian, too little to be learnt from fast."""

    def __post_init__(self) -> None:
        if self.block_latents not in BLOCK_SIZES:
            raise ConfigError(f"block_latents is {self.block_latents}, expected one of {BLOCK_SIZES}: choose one of these")
        if self.window_latents < 2 * self.block_latents:
            raise ConfigError(
                f"window_latents is {self.window_latents}, expected at least two blocks ({2 * self.block_latents}): "
                "a full window hands its last block on to the next; enlarge it"
            )
        if any(not (0 <= channel < self.latent_channels and 0 <= share <= 1) for channel, share in self.homing):
            raise ConfigError(
                f"homing is {self.homing}, with {self.latent_channels} latent channels; expected channels that count from 0, "
                "each with a share from 0 to 1: change one"
            )
        if self.head_dim < 6 or self.head_dim % 2:
            raise ConfigError(f"head_dim is {self.head_dim}, expected an even number of at least 6: change it")
        if self.max_references < 1:
            raise ConfigError(f"max_references is {self.max_references}, expected at least 1: raise it")

    @property
    def condition_channels(self) -> int:
        """Channels beside a noised latent: a' and, if there are any, the four controls."""
        return self.audio_channels + (4 * self.control_channels if self.controls else 0)


def paper_generator_config() -> GeneratorConfig:
    """The published generator, one billion parameters (section 4.1)."""
    return GeneratorConfig(width=1536, depth=24, num_heads=12, head_dim=128, audio_channels=512)


def lite_generator_config() -> GeneratorConfig:
    """The embedded generator: 3 x 3 latents, about four million parameters, two CPU cores."""
    return GeneratorConfig(
        width=192,
        depth=6,
        num_heads=3,
        head_dim=64,
        mlp_ratio=2.0,
        audio_features=128,
        audio_channels=96,
        window_latents=16,
        controls=True,
        homing=((7, 0.1), (12, 0.1), (13, 0.1), (21, 1.0), (43, 1.0)),  # smile, brows; the light, and its slope
        angle_gain=8.0,
    )


def tiny_generator_config() -> GeneratorConfig:
    """For tests: everything there is, as small as it gets."""
    return GeneratorConfig(
        width=32,
        depth=2,
        num_heads=2,
        head_dim=16,
        mlp_ratio=2.0,
        audio_channels=8,
        window_latents=16,
        controls=True,
        control_channels=4,
    )
