"""Configuration of the video VAE, and the sizes it comes in."""

from dataclasses import dataclass
from itertools import pairwise

from vivavoz.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class WarpConfig:
    """The reference warp as decoder head, in place of painting every pixel (docs/adr/0005-reference-warp.md)."""

    max_offset: float = 0.5
    """Largest displacement a flow can ask for, as a fraction of the picture's side."""
    anchored: bool = True
    """Subtract from every flow the one the head gives a reference for its own latent, where nothing should move: its errors grow
    with the motion instead of being there at rest."""
    basis_codes: tuple[int, ...] = ()
    """Frame codes that, beside all else, move a reference along fields that are its own and linear in how far the code is from
    the reference's, as blend shapes are (`vivavoz.vae.bases`): what is small, such as an iris, convolutions learn last."""


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Everything that fixes the VAE's architecture (paper 3.1, supplement B). The defaults are the paper's `paper` size."""

    latent_channels: int = 64
    """Channels of the latent `z`."""
    frame_codes: int = 0
    """Beyond the paper: encode and decode every picture by itself, as so many numbers at each place of the latent, of which a
    fixed transform makes latents (docs/adr/0007-frame-codes.md). 0: as in the paper, convolutions merge four pictures."""
    resting_codes: tuple[tuple[int, float, float], ...] = ()
    """Beyond the paper: frame codes of portraits that are taken as usual rather than as read (`VAE.at_rest`): code, usual value,
    and the error of a reading, of which only what exceeds it is believed. What differs little from portrait to portrait is read
    off a stranger's worse than it is guessed."""
    encoder1_channels: tuple[int, int, int, int] = (128, 256, 512, 1024)
    """Widths of E1's stages at 1, 1/2, 1/4, 1/8 of the picture's side; each ends in a halving."""
    encoder1_blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Residual blocks in each stage of E1."""
    feature_channels: int = 1024
    """Channels of E1's and D1's output at 1/16: the width in which references are fused."""
    encoder2_channels: tuple[int, int] = (2048, 2048)
    """Widths after each of E2's two halvings."""
    decoder1_channels: tuple[int, int] = (1024, 512)
    """Widths of D1 at 1/64 and 1/32."""
    decoder2_channels: tuple[int, int, int, int] = (512, 256, 128, 32)
    """Widths of D2's stages at 1/8, 1/4, 1/2 and 1. With a reference warp only the first three exist."""
    decoder2_blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Residual blocks in each stage of D2."""
    fusion_blocks: int = 6
    """Transformer blocks of D_ref."""
    fusion_head_dim: int = 64
    """Width of one attention head of D_ref; `feature_channels / fusion_head_dim` heads."""
    outer_temporal_kernel: int = 3
    """Temporal kernel of E1's and D2's convolutions (1: no state at the expensive resolutions)."""
    inner_temporal_kernel: int = 3
    """Temporal kernel of E2's and D1's convolutions."""
    residual: bool = True
    """The shortcuts of CR-VA; off for the ablation of table 2."""
    references: bool = True
    """Reference guidance; off removes D_ref's cross-attention (table 2, "No ref.")."""
    reference_motion: bool = False
    """Beyond the paper: add D1 of a reference's own latent to its features, its pose in the same terms as the frame's."""
    standardise_features: bool = False
    """Beyond the paper: E2 sees E1's features with a shift and a gain per channel. Where the decoder's training has left E1 with
    large constant channels, E2's norms would see nothing else."""
    coordinates: bool = False
    """Beyond the paper: tell D_ref and the reference warp where in the picture they are. Turns and shifts of the head are motion
    that is linear in the place; convolutions and rotary attention only know places relative to each other."""
    face_map_channels: tuple[int, ...] = ()
    """Beyond the paper: a network beside E1 that tells where on a face a pixel lies (docs/adr/0011-face-map.md). Its widths at
    1/2, 1/4, 1/8, 1/16 of the side and coarser; empty: there is none."""
    warp: WarpConfig | None = None
    """Decode by warping the references, or (None) paint every pixel as the paper does."""

    def __post_init__(self) -> None:
        if not 0 <= self.frame_codes <= self.latent_channels:
            raise ConfigError(
                f"frame_codes is {self.frame_codes}, expected 0 to {self.latent_channels}, the channels of a latent: change one"
            )
        if any(not 0 <= code < self.frame_codes or error < 0 for code, _, error in self.resting_codes):
            raise ConfigError(
                f"resting_codes is {self.resting_codes}, with {self.frame_codes} frame_codes; expected codes that count from 0, "
                "each with its usual value and an error of at least 0: change one"
            )
        if self.feature_channels % self.fusion_head_dim:
            raise ConfigError(
                f"feature_channels is {self.feature_channels}, expected a multiple of fusion_head_dim {self.fusion_head_dim}: "
                "change one"
            )
        if self.fusion_head_dim % 4:
            raise ConfigError(
                f"fusion_head_dim is {self.fusion_head_dim}, expected a multiple of 4 (rows and columns): change it"
            )
        for c_in, c_out in pairwise((*self.encoder1_channels, self.feature_channels, *self.encoder2_channels)):
            if c_in % 4 or c_out % 4 or (self.residual and 4 * c_in % c_out):
                raise ConfigError(
                    f"the encoder cannot go from {c_in} to {c_out} channels: "
                    "widths are multiples of 4, and 4 times one is a multiple of the next; change one"
                )
        decoder2_channels = self.decoder2_channels if self.warp is None else self.decoder2_channels[:3]
        for c_in, c_out in pairwise((*self.decoder1_channels, self.feature_channels, *decoder2_channels)):
            if self.residual and 4 * c_out % c_in:
                raise ConfigError(
                    f"the decoder cannot go from {c_in} to {c_out} channels: "
                    "4 times a width is a multiple of the one before; change one, or set residual=False"
                )
        if self.face_map_channels and (len(self.face_map_channels) < 4 or not self.frame_codes):
            raise ConfigError(
                f"face_map_channels is {self.face_map_channels}, with {self.frame_codes} frame_codes; a face map has at least 4 "
                "widths, and sees every picture by itself, which takes frame codes: add what is missing"
            )
        if self.warp is not None and any(not 0 <= code < self.frame_codes for code in self.warp.basis_codes):
            raise ConfigError(
                f"basis_codes is {self.warp.basis_codes}, with {self.frame_codes} frame_codes; they count from 0: change one"
            )
        if self.warp is not None and not self.references:
            raise ConfigError("a reference warp needs references: set references=True or warp=None")

    @property
    def code_channels(self) -> int:
        """Channels that E2 writes and D1 reads: those of the latent, or of a frame's code."""
        return self.frame_codes or self.latent_channels

    @property
    def sees_single_pictures(self) -> bool:
        """Whether the decoder is a reference warp that keeps nothing from one picture to the next."""
        return self.warp is not None and self.frame_codes > 0 and self.outer_temporal_kernel == self.inner_temporal_kernel == 1

    @property
    def temporal_factors(self) -> tuple[int, int, int, int]:
        """Change of the frame rate in the stages of E1 (halving, at their ends) and, the same, of D2 (doubling)."""
        return (1, 1, 1, 1) if self.frame_codes else (1, 2, 2, 1)

    @property
    def spatial_factor(self) -> int:
        """Picture side over latent side."""
        return 64

    @property
    def compression_ratio(self) -> int:
        """Numbers in the video per number in the latent, for long clips: 3 * 4 * 64 * 64 / latent channels."""
        return 3 * 4 * self.spatial_factor**2 // self.latent_channels


def paper_vae_config() -> VAEConfig:
    """The size of the paper: 497M encoder, 406M decoder parameters."""
    return VAEConfig()


_RESTING_LABELS = (
    (0, -0.76, 1.9),  # opening
    (2, -0.6, 0.92),  # pucker
    (3, -0.4, 0.24),  # press
    (4, -0.25, 0.26),  # lower_in
    (5, -0.6, 0.46),  # upper_raise
    (6, -0.4, 0.56),  # tongue
    (20, 0.0, 2.2),  # breath
    (21, 0.0, 0.58),  # light
)
"""Labels of the animator's (`vivavoz.rig.labels`) as portraits have them: those that are 0 in a face that nothing moves, and
the opening of the lips as it is on average. The last number of each is twice the error (RMS) of reading it off 20 strangers."""


def lite_vae_config() -> VAEConfig:
    """The embedded size: sees 192 x 192, and warps references of any size (512 x 512 as shipped)."""
    return VAEConfig(
        frame_codes=22,
        resting_codes=_RESTING_LABELS,
        encoder1_channels=(8, 32, 64, 64),
        encoder1_blocks=(0, 0, 1, 1),
        feature_channels=128,
        encoder2_channels=(128, 128),
        decoder1_channels=(128, 128),
        decoder2_channels=(64, 32, 16, 16),
        decoder2_blocks=(1, 1, 1, 0),
        fusion_blocks=2,
        fusion_head_dim=32,
        outer_temporal_kernel=1,
        inner_temporal_kernel=1,
        standardise_features=True,
        reference_motion=True,
        coordinates=True,
        face_map_channels=(24, 48, 96, 128, 192),
        warp=WarpConfig(basis_codes=(*range(6), *range(7, 14))),  # lips, lids, gaze and brows
    )


def tiny_vae_config(*, warp: bool = False) -> VAEConfig:
    """For tests: every part present, a quarter of a million parameters, 64 x 64 pictures."""
    return VAEConfig(
        latent_channels=8,
        frame_codes=3 if warp else 0,
        encoder1_channels=(4, 8, 8, 16),
        encoder1_blocks=(1, 1, 1, 1),
        feature_channels=16,
        encoder2_channels=(16, 16),
        decoder1_channels=(16, 16),
        decoder2_channels=(16, 8, 8, 4),
        decoder2_blocks=(1, 1, 1, 1),
        fusion_blocks=1,
        fusion_head_dim=8,
        standardise_features=warp,
        reference_motion=warp,
        coordinates=warp,
        face_map_channels=(4, 4, 8, 8) if warp else (),
        warp=WarpConfig(basis_codes=(0, 2)) if warp else None,
    )
