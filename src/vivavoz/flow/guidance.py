"""Classifier-free guidance with two conditions."""

from __future__ import annotations

from torch import Tensor

DEFAULT_GUIDANCE_SCALE = 2.0
"""Default strength for audio and for references alike (supplement A, table II)."""


def guide(
    full: Tensor,
    no_audio: Tensor,
    no_reference: Tensor,
    *,
    audio_scale: float = DEFAULT_GUIDANCE_SCALE,
    reference_scale: float = DEFAULT_GUIDANCE_SCALE,
) -> Tensor:
    """Guided velocity, equation (I); the three velocities and the result share one shape.

    At scales (1, 1) it is `full`: no guidance.
    """
    towards_audio = full - no_audio
    towards_reference = full - no_reference
    # Equation (I) with its terms collected: exact at (1, 1) also in floating point.
    return full + (audio_scale - 1) * towards_audio + (reference_scale - 1) * towards_reference
