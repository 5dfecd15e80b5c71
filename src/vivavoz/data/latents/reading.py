"""Windows of cached latents for the generator's training. A batch is a function of the seed and its number alone.

Legend: B windows, C channels, N latents, R references, h w rows and columns, F pictures, K mel bands.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vivavoz.data.latents.controls import to_controls
from vivavoz.data.latents.store import LatentsInfo, StoredLatents
from vivavoz.data.shards.clip import Split
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.shards.reading import Shuffled
from vivavoz.data.shards.storage import join
from vivavoz.errors import ConfigError, DataError
from vivavoz.generator.conditioning import Controls
from vivavoz.timing import FRAME_RATE, frames_of_latents


@dataclass(frozen=True, kw_only=True)
class LatentWindowConfig:
    """What a batch is made of."""

    batch_size: int = 2
    num_latents: int = 32
    """Latent frames in a window."""
    num_references: int = 3
    """References of each window; how many of them a step shows is for the objective to draw."""
    start_odds: float = 0.3
    """How often a window begins with the clip's first frame. All windows of a batch do, or none does."""
    other_clip_odds: float = 0.5
    """How often a reference comes from another clip of the person, if there is one."""
    split: Split = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.batch_size, self.num_latents, self.num_references) < 1:
            raise ConfigError(
                f"got {self.batch_size} windows of {self.num_latents} latents with {self.num_references} references; "
                "expected at least 1 of each"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentBatch:
    """Windows of latents with the sound of their pictures."""

    latents: Tensor
    """(B, C, N, h, w) float32."""
    references: Tensor
    """(B, C, R, h, w) float32."""
    mel_windows: Tensor
    """(B, F, 16, K) float32; F is 1 + 4 (N - 1) where windows start a video, else 4 N."""
    controls: Controls
    """Of every latent; `present` says what is known."""
    starts_video: bool
    keys: tuple[str, ...]
    """Of the clips."""
    first_latents: tuple[int, ...]
    """Where in their clips the windows begin."""


class LatentWindows(Dataset[LatentBatch]):
    """Endlessly many batches from cached latents; item i is batch i. Every epoch goes through all clips once."""

    def __init__(self, folder: str, config: LatentWindowConfig) -> None:
        """Index the clips.

        Args:
            folder: that `encode_corpus` wrote: a path or any fsspec URL.
            config: what a batch is made of.

        Raises:
            DataError: no latents there, or no clip of the split that is long enough.
        """
        self.folder, self.config, self.info = folder, config, LatentsInfo.load(folder)
        self._clips: list[StoredLatents] = []
        self._by_identity: dict[str, list[int]] = defaultdict(list)
        for shard in Manifest.load(folder).shards:
            for clip in shard.clips:
                if clip.info.split == config.split:
                    self._by_identity[clip.info.identity].append(len(self._clips))
                    self._clips.append(StoredLatents(clip=clip, url=join(folder, shard.name), layout=self.info))
        self._windowed = [i for i, clip in enumerate(self._clips) if clip.num_latents > config.num_latents]
        if not self._windowed:
            seconds = frames_of_latents(config.num_latents + 1) / FRAME_RATE
            raise DataError(
                f"{folder} has {len(self._clips)} {config.split} clips, none longer than {config.num_latents} latents; "
                f"give clips of {seconds:.1f} s or more"
            )
        self._shuffled = Shuffled(len(self._windowed), config.seed)

    @property
    def num_clips(self) -> int:
        """Clips that windows are taken from."""
        return len(self._windowed)

    def __getitem__(self, index: int) -> LatentBatch:
        """Batch `index`, 0 and up, without end."""
        config, rng = self.config, np.random.default_rng([self.config.seed, index])
        starts_video = bool(rng.random() < config.start_odds)
        latents, references, sounds, controls, keys, firsts = [], [], [], [], [], []
        for row in range(config.batch_size):
            clip = self._clips[self._windowed[self._shuffled[index * config.batch_size + row]]]
            first = 0 if starts_video else int(rng.integers(1, clip.num_latents - config.num_latents + 1))
            wanted = range(first, first + config.num_latents)
            latents.append(clip.latents(wanted))
            sounds.append(clip.mel_windows(wanted))
            controls.append(clip.controls(wanted))
            references.append(torch.stack([self._reference(clip, rng) for _ in range(config.num_references)], dim=1))
            keys.append(clip.clip.info.key)
            firsts.append(first)
        return LatentBatch(
            latents=torch.stack(latents),
            references=torch.stack(references),
            mel_windows=torch.stack(sounds),
            controls=to_controls(controls),
            starts_video=starts_video,
            keys=tuple(keys),
            first_latents=tuple(firsts),
        )

    def _reference(self, clip: StoredLatents, rng: np.random.Generator) -> Tensor:
        """(C, h, w) of the same person."""
        others = [self._clips[i] for i in self._by_identity[clip.clip.info.identity] if self._clips[i] is not clip]
        source = others[int(rng.integers(len(others)))] if others and rng.random() < self.config.other_clip_odds else clip
        return source.reference(int(rng.integers(source.num_references)))
