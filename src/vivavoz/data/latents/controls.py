"""What a face does, as the generator's controls ask for it: a row for every latent frame, from a clip's labels.

Legend: B windows, N latents, F frames, K columns. A latent has the class of its last frame, and the mean of its frames' numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivavoz.generator.conditioning import CONTROL_NAMES, Controls
from vivavoz.timing import FRAMES_PER_LATENT

_CLASSES: Final = ("state", "expression")
_NUMBERS: Final = (("expression_intensity", 1), ("gaze", 2), ("head_pose", 3))
NUM_COLUMNS: Final = len(_CLASSES) + sum(width for _, width in _NUMBERS) + len(CONTROL_NAMES)
"""Classes, numbers, and for every control whether it is known."""


def control_rows(labels: Mapping[str, NDArray], num_latents: int) -> Tensor:
    """Labels of a clip from its first frame on, by name as in `shards.clip.LABELS`, to (N, K) float32; zeros for what is not
    there. The first latent stands for one frame."""
    num_frames = 1 + FRAMES_PER_LATENT * (num_latents - 1)

    def grouped(name: str, width: int) -> NDArray[np.float32]:
        if name not in labels:
            missing = 1.0 if name == "expression_intensity" else 0.0  # an expression without one is meant fully
            return np.full((num_latents, FRAMES_PER_LATENT, width), missing, np.float32)
        track = labels[name][:num_frames].astype(np.float32).reshape(num_frames, width)
        return np.concatenate([track[:1].repeat(FRAMES_PER_LATENT - 1, axis=0), track]).reshape(num_latents, -1, width)

    columns = [grouped(name, 1)[:, -1] for name in _CLASSES]
    columns += [grouped(name, width).mean(axis=1) for name, width in _NUMBERS]
    known = np.array([name in labels for name in CONTROL_NAMES], np.float32)
    return torch.from_numpy(np.concatenate([*columns, np.tile(known, (num_latents, 1))], axis=1))


def to_controls(rows: Sequence[Tensor]) -> Controls:
    """Rows (N, K) of B windows as the generator takes them; `present` says what is known."""
    table = torch.stack(list(rows))
    widths = [1] * len(_CLASSES) + [width for _, width in _NUMBERS] + [len(CONTROL_NAMES)]
    state, expression, intensity, gaze, head_pose, known = table.split(widths, dim=-1)
    return Controls(
        state=state.squeeze(-1).long(),
        expression=expression.squeeze(-1).long(),
        expression_intensity=intensity.squeeze(-1),
        gaze=gaze,
        head_pose=head_pose,
        present=known > 0,
    )
