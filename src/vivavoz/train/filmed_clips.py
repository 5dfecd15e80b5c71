"""Filmed clips for training the `lite` VAE beside animated ones: real skin, teeth and light, without an animator's truth."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vivavoz.data.shards.reading import ShardWindows, WindowConfig, window_loader
from vivavoz.train.clips import AnimatedClips, Clips, face_region, light_curve


@dataclass(frozen=True)
class FilmedClips:
    """A batch of filmed pictures with references of the same people; uint8, as in `Clips`."""

    frames: Tensor
    """(B, T, H, W, 3) uint8."""
    references: Tensor
    """(B, M, H, W, 3) uint8, M > 0."""
    region: Tensor
    """(B, 1, T, h, w): `EYES`, `MOUTH`, `IRISES`, 0 elsewhere; h and w half of H and W."""


@dataclass(frozen=True, kw_only=True)
class FilmedConfig:
    """What a batch of filmed clips is made of."""

    size: int
    """Side of the pictures, in px."""
    batch_size: int = 4
    reference_odds: tuple[float, ...] = (0.0, 0.6, 0.2, 0.2)
    """How often a batch has 0, 1, 2, 3 references; never 0, as no other loss than that of the pixels is there."""
    odds: float = 0.15
    """How often a batch is filmed, not animated."""
    seed: int = 0


class FilmedWindows(Dataset[FilmedClips]):
    """Endless batches of single frames of the training clips in a corpus, by their number; mirrored and lit at random.

    References are from the same clip or another one of the person.
    """

    def __init__(self, folder: str, config: FilmedConfig) -> None:
        """Index the clips in `folder`, a path or any fsspec URL. Raises `DataError` as `ShardWindows` does."""
        self.config = config
        self._windows = ShardWindows(
            folder,
            WindowConfig(batch_size=config.batch_size, num_frames=1, reference_odds=config.reference_odds, seed=config.seed),
        )

    def __getitem__(self, index: int) -> FilmedClips:
        """Batch number `index`."""
        batch = self._windows[index]
        assert batch.landmarks is not None, "windows are read with their arrays"
        rng = np.random.default_rng([self.config.seed, 3, index])
        scale = self.config.size / self._windows.config.size_px
        frames, references = (self._resized(images.numpy()) for images in (batch.frames, batch.references))
        marks = batch.landmarks.numpy() * scale
        region = np.stack([[face_region(points[:, :2], self.config.size) for points in clip] for clip in marks])
        for row in range(len(frames)):
            if rng.random() < 0.5:
                frames[row], references[row] = frames[row][..., ::-1, :].copy(), references[row][..., ::-1, :].copy()
                region[row] = region[row][..., ::-1].copy()
            curve = light_curve(rng)
            frames[row], references[row] = (curve[images[row], np.arange(3)] for images in (frames, references))
        return FilmedClips(torch.from_numpy(frames), torch.from_numpy(references), torch.from_numpy(region[:, None]))

    def _resized(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(B, N, S, S, 3) at the config's size."""
        side = (self.config.size, self.config.size)
        flat = [cv2.resize(one, side, interpolation=cv2.INTER_AREA) for one in images.reshape(-1, *images.shape[2:])]
        return np.array(flat, np.uint8).reshape(*images.shape[:2], *side, 3)


class MixedClips(Dataset[Clips | FilmedClips]):
    """Animated batches, some of them replaced by filmed ones, by their number."""

    def __init__(self, animated: AnimatedClips, filmed: FilmedWindows) -> None:
        self.animated, self.filmed = animated, filmed

    def __getitem__(self, index: int) -> Clips | FilmedClips:
        """Batch number `index`."""
        config = self.filmed.config
        is_filmed = np.random.default_rng([config.seed, 4, index]).random() < config.odds
        return self.filmed[index] if is_filmed else self.animated[index]

    def batches(self, *, num_workers: int = 0) -> Callable[[int], Iterable[Clips | FilmedClips]]:
        """What a training loop takes: from a step on, the batches, made by workers of its own."""

        def from_step(first_step: int) -> Iterable[Clips | FilmedClips]:
            return window_loader(self, start=first_step, num_workers=num_workers, prefetch=4)

        return from_step
