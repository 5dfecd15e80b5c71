"""The clocks of sound and picture, in integers and fractions only: nothing here can drift.

One picture lasts 640 samples at 16 kHz. The first latent frame stands for 1 picture, every later one for 4.
"""

from fractions import Fraction

FRAME_RATE = 25
"""Pictures per second."""

SAMPLE_RATE_HZ = 16_000
"""Sample rate of the sound inside the model."""

SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FRAME_RATE
"""Samples of sound that one picture lasts: 640."""

FRAMES_PER_LATENT = 4
"""Pictures that every latent frame but the first stands for."""


def frame_time(index: int) -> Fraction:
    """Start of picture `index` (0-based) on the stream's clock, in seconds."""
    return Fraction(index, FRAME_RATE)


def frames_of_latents(num_latents: int) -> int:
    """Pictures that the first `num_latents` latent frames of a stream stand for: 0, 1, 5, 9, ..."""
    return 0 if num_latents <= 0 else 1 + FRAMES_PER_LATENT * (num_latents - 1)


def latents_of_frames(num_frames: int) -> int:
    """Latent frames needed to cover the first `num_frames` pictures of a stream (rounded up)."""
    return 0 if num_frames <= 0 else 1 + -(-(num_frames - 1) // FRAMES_PER_LATENT)
