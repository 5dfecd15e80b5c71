"""How far pictures lag behind sound before any computing: a matter of the block's length and of how far hearing looks ahead."""

from dataclasses import dataclass
from fractions import Fraction

from vivavoz.audio.alignment import samples_needed
from vivavoz.errors import ConfigError
from vivavoz.generator.config import BLOCK_SIZES
from vivavoz.timing import FRAMES_PER_LATENT, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, frames_of_latents

_PATTERN_FRAMES = 5
"""Pictures after which the look-ahead repeats: 5 pictures last as long as 16 mel frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyBudget:
    """Delays that hold on an infinitely fast machine; the time to compute a block comes on top. In seconds."""

    lookahead_s: Fraction
    """Sound heard beyond the end of a block's last picture, at most."""
    block_s: Fraction
    """Sound that a block lasts: its first picture waits for its last."""
    first_picture_s: Fraction
    """Sound needed before the stream's first picture."""

    @property
    def total_s(self) -> Fraction:
        """Delay from a sound to the picture that shows it, at most: what a live player has to lag behind."""
        return self.lookahead_s + self.block_s


def latency_budget(block_latents: int) -> LatencyBudget:
    """The delays of a stream with blocks of 1, 2 or 4 latent frames. Raises `ConfigError` for another number."""
    if block_latents not in BLOCK_SIZES:
        raise ConfigError(f"block_latents is {block_latents}, expected one of {BLOCK_SIZES}: choose one of these")
    lookahead_samples = max(samples_needed(i) - i * SAMPLES_PER_FRAME for i in range(1, _PATTERN_FRAMES + 1))
    return LatencyBudget(
        lookahead_s=Fraction(lookahead_samples, SAMPLE_RATE_HZ),
        block_s=Fraction(block_latents * FRAMES_PER_LATENT * SAMPLES_PER_FRAME, SAMPLE_RATE_HZ),
        first_picture_s=Fraction(samples_needed(frames_of_latents(block_latents)), SAMPLE_RATE_HZ),
    )
