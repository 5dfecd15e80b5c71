"""A first training of the `lite` audio encoder: mel windows to the lips of the picture they belong to and of its neighbours.

The paper's audio encoder comes trained (Wav2Lip's). The embedded one learns to hear lip shapes by plain regression, which takes
minutes; the generator then trains on its features, which are computed once.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.audio.encoder import AudioEncoder
from vivavoz.train.generator_training import Take
from vivavoz.train.loop import LoopConfig, Objective, Step
from vivavoz.train.sheets import Sheet, tracks

_NUM_SHOWN = 64


@dataclass(frozen=True, kw_only=True)
class AudioTraining:
    """Settings of a run."""

    loop: LoopConfig
    batch_size: int = 256
    num_lip_labels: int = 7
    """The first so many labels speak of the lips."""
    num_neighbours: int = 2
    """Pictures before and after the window's own whose lips are also to be told from it."""


@dataclass(frozen=True)
class Heard:
    """A batch."""

    windows: Tensor
    """(B, 16, K) mel windows."""
    lips: Tensor
    """(B, neighbours x labels)."""


class AudioObjective(Objective[Heard]):
    """The regression; its linear head is left behind."""

    def __init__(self, encoder: AudioEncoder, takes: Sequence[Take], settings: AudioTraining) -> None:
        super().__init__()
        self.encoder, self.settings, self._takes = encoder, settings, takes
        num_pictures = 2 * settings.num_neighbours + 1
        self.head = nn.Linear(encoder.config.num_features, settings.num_lip_labels * num_pictures)

    def batches(self, first_step: int) -> Iterator[Heard]:
        """Random windows out of eight random takes a step."""
        settings, reach = self.settings, self.settings.num_neighbours
        for step in itertools.count(first_step):
            rng = np.random.default_rng([settings.loop.seed, step])
            windows, lips = [], []
            for take in (self._takes[i] for i in rng.integers(len(self._takes), size=8)):
                last = min(len(take.windows), len(take.labels)) - reach
                frames = rng.integers(reach, last, size=settings.batch_size // 8)
                windows.append(take.windows[torch.from_numpy(frames)])
                around = frames[:, None] + np.arange(-reach, reach + 1)
                lips.append(torch.from_numpy(take.labels[around, : settings.num_lip_labels]).flatten(1))
            yield Heard(torch.cat(windows), torch.cat(lips))

    def forward(self, batch: Heard, step: Step) -> dict[str, Tensor]:
        """The distance to the lips; the sound is made louder and softer by about 3 dB."""
        gain = 0.25 * torch.randn(len(batch.windows), 1, 1, generator=step.rng)
        heard = self.encoder((batch.windows + gain).clamp(-4, 4).unsqueeze(0)).squeeze(0)
        return {"lips": F.smooth_l1_loss(self.head(heard), batch.lips)}

    def show(self, batch: Heard) -> dict[str, Sheet]:
        """Lips of some windows, true and heard."""
        heard = self.encoder(batch.windows[None, :_NUM_SHOWN]).squeeze(0)
        return {"true_heard_lips": tracks(batch.lips[:_NUM_SHOWN].T, self.head(heard).T)}
