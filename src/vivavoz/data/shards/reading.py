"""Windows of clips for training, decoded from shards at any fsspec URL.

A batch is a function of the seed and its number alone: the workers, machines and restarts of a run change nothing in it.
Legend: `B` windows, `T` frames = 1 + 4n, `M` references, `S` side in px, `N` samples at 16 kHz.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing import get_all_start_methods
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vivavoz.data.shards.clip import LABELS, SIZES_PX, ClipInfo, Split
from vivavoz.data.shards.codec import decode_arrays, decode_frames, decode_sound
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.shards.storage import join, read_bytes
from vivavoz.errors import ConfigError, DataError
from vivavoz.rig.landmarks import NUM_LANDMARKS
from vivavoz.timing import FRAMES_PER_LATENT, SAMPLES_PER_FRAME


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """What a batch is made of."""

    batch_size: int = 4
    num_frames: int = 17
    """Frames of a window, 1 + 4n."""
    size_px: int = 256
    """512 or 256."""
    split: Split = "train"
    reference_odds: tuple[float, ...] = (0.04, 0.6, 0.2, 0.16)
    """How often a batch has 0, 1, 2, ... references."""
    other_clip_odds: float = 0.5
    """How often a reference comes from another clip of the person, if there is one."""
    reference_gap_frames: int = -1
    """References of the window's own clip are more than so many frames away from it, where the clip is long enough; below 0:
    they are any of its frames, the window's own too."""
    sound_margin_samples: int = 0
    """Sound before and after the window, beside its own; zeros beyond the clip's ends."""
    arrays: bool = True
    """Whether landmarks and labels are read too."""
    batches_per_step: int = 1
    """So many batches in a row have the same number of references: those of one step, where several processes must agree."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_frames < 1 or (self.num_frames - 1) % FRAMES_PER_LATENT:
            raise ConfigError(f"got windows of {self.num_frames} frames, expected 1 + 4n: 1, 5, 9, 13, 17, ...")
        if self.size_px not in SIZES_PX:
            raise ConfigError(f"got size_px {self.size_px}, expected one of {', '.join(map(str, SIZES_PX))}")
        if min(self.batch_size, self.batches_per_step) < 1 or self.sound_margin_samples < 0:
            raise ConfigError(
                f"got {self.batch_size} windows, {self.batches_per_step} batches per step, {self.sound_margin_samples} samples; "
                "expected > 0, > 0 and >= 0"
            )
        if not self.reference_odds or abs(sum(self.reference_odds) - 1) > 1e-6 or min(self.reference_odds) < 0:
            raise ConfigError(f"got reference_odds {self.reference_odds}, expected shares that add up to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """Labels of a batch's frames; see `LABELS` for columns and units. Zeros where a clip has none."""

    state: Tensor
    """(B, T) int64"""
    expression: Tensor
    """(B, T) int64"""
    expression_intensity: Tensor
    """(B, T) float32"""
    gaze: Tensor
    """(B, T, 2) float32"""
    head_pose: Tensor
    """(B, T, 3) float32"""
    blink: Tensor
    """(B, T, 2) float32"""
    lip_shape: Tensor
    """(B, T, 3) float32"""
    phoneme: Tensor
    """(B, T) int64"""
    present: Tensor
    """(B, 8) bool, in the order of `LABELS`: whether the clip has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowBatch:
    """Windows of clips with references of the same people."""

    frames: Tensor
    """(B, T, S, S, 3) uint8 RGB"""
    references: Tensor
    """(B, M, S, S, 3) uint8 RGB; M may be 0"""
    samples: Tensor
    """(B, N) float32 in [-1, 1], N = 640 T and the margins"""
    landmarks: Tensor | None
    """(B, T, 478, 3) float32 in px of the S x S picture"""
    reference_landmarks: Tensor | None
    """(B, M, 478, 3)"""
    labels: Labels | None
    keys: tuple[str, ...]
    """Of the clips."""
    first_frames: tuple[int, ...]
    """Where in their clips the windows begin."""
    reference_keys: tuple[tuple[str, ...], ...]
    """B times M clips that the references are from."""


class Shuffled:
    """0 to count - 1 over and over, in a new order each time, as a function of seed and place."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def __getitem__(self, number: int) -> int:
        epoch, place = divmod(number, self._count)
        if epoch != self._epoch[0]:
            self._epoch = epoch, np.random.default_rng([self._seed, epoch, 1]).permutation(self._count)
        return int(self._epoch[1][place])


class ShardWindows(Dataset[WindowBatch]):
    """Endlessly many batches from the corpus in `folder`; item i is batch i. Every epoch goes through all clips once."""

    def __init__(self, folder: str, config: WindowConfig, *, manifest: Manifest | None = None) -> None:
        """Index the clips.

        Args:
            folder: of the corpus: a path or any fsspec URL.
            config: what a batch is made of.
            manifest: of the folder, if it is at hand.

        Raises:
            DataError: no manifest of clips, or no clip of the split that is long enough.
        """
        self.folder, self.config = folder, config
        self._places: list[_Place] = []
        self._by_identity: dict[str, list[int]] = defaultdict(list)
        for shard in (manifest or Manifest.load(folder)).shards:
            for clip in shard.clips:
                if f"{config.size_px}.mp4" not in clip.members:
                    raise DataError(f"{folder} holds no pictures; give the shards that `vivavoz data` makes")
                if clip.info.split == config.split:
                    self._by_identity[clip.info.identity].append(len(self._places))
                    self._places.append(_Place(info=clip.info, url=join(folder, shard.name), members=clip.members))
        self._windowed = [i for i, place in enumerate(self._places) if place.info.num_frames >= config.num_frames]
        if not self._windowed:
            raise DataError(
                f"{folder} has {len(self._places)} {config.split} clips, none of {config.num_frames} frames or more; "
                "take shorter windows or add clips"
            )
        self._shuffled = Shuffled(len(self._windowed), config.seed)

    @property
    def num_clips(self) -> int:
        """Clips that windows are taken from."""
        return len(self._windowed)

    def __getitem__(self, index: int) -> WindowBatch:
        """Batch `index`, 0 and up, without end."""
        rng = np.random.default_rng([self.config.seed, index])
        step_rng = np.random.default_rng([self.config.seed, index // self.config.batches_per_step, 2])
        num_references = int(step_rng.choice(len(self.config.reference_odds), p=self.config.reference_odds))
        first = index * self.config.batch_size
        return _collate([self._draw(first + row, num_references, rng) for row in range(self.config.batch_size)], self.config)

    def _draw(self, number: int, num_references: int, rng: np.random.Generator) -> "_Window":
        clip = self._windowed[self._shuffled[number]]
        first = int(rng.integers(self._places[clip].info.num_frames - self.config.num_frames + 1))
        wanted = {clip: list(range(first, first + self.config.num_frames))}
        others = [other for other in self._by_identity[self._places[clip].info.identity] if other != clip]
        references = []
        for _ in range(num_references):
            other = int(rng.choice(others)) if others and rng.random() < self.config.other_clip_odds else clip
            frames = wanted.setdefault(other, [])
            references.append((other, len(frames)))
            frames.append(self._reference_frame(other, first if other == clip else None, rng))
        read = {one: self._read(one, frames, sound=one == clip) for one, frames in wanted.items()}  # each opened once
        window = read[clip].part(0, self.config.num_frames)
        window.references = [read[other].part(place, place + 1) for other, place in references]
        return window

    def _reference_frame(self, clip: int, first: int | None, rng: np.random.Generator) -> int:
        """A frame of a clip; `first`: of the window, where it is the window's."""
        num_frames, gap = self._places[clip].info.num_frames, self.config.reference_gap_frames
        if first is not None and gap >= 0:
            last = first + self.config.num_frames - 1
            apart = [frame for frame in range(num_frames) if not first - gap <= frame <= last + gap]
            if apart:
                return apart[int(rng.integers(len(apart)))]
        return int(rng.integers(num_frames))

    def _read(self, clip: int, wanted: Sequence[int], *, sound: bool) -> "_Window":
        """Some frames of a clip; with `sound`, that of a window at their beginning."""
        place, config = self._places[clip], self.config
        key, video = place.info.key, f"{config.size_px}.mp4"
        members = place.read([video, *(["flac"] if sound else []), *(["npz"] if config.arrays else [])])
        window = _Window(key=key, first=wanted[0], frames=decode_frames(members[video], wanted, key))
        if sound:
            start = wanted[0] * SAMPLES_PER_FRAME - config.sound_margin_samples
            stop = (wanted[0] + config.num_frames) * SAMPLES_PER_FRAME + config.sound_margin_samples
            there = range(max(start, 0), min(stop, place.info.num_frames * SAMPLES_PER_FRAME))
            window.samples = np.pad(decode_sound(members["flac"], key, there), (there.start - start, stop - there.stop))
        if config.arrays:
            window.arrays = {name: values[wanted] for name, values in decode_arrays(members["npz"], key).items()}
            window.arrays["landmarks"] = window.arrays["landmarks"] * np.float32(config.size_px / SIZES_PX[0])
        return window


class ResidentWindows(ShardWindows):
    """The same batches with pictures of any smaller size, without sound and labels; clips are decoded once and stay in memory.

    For small pictures and many epochs, where decoding would take longer than learning: a minute at 64 px takes 18 MB.
    """

    def __init__(
        self, folder: str, config: WindowConfig, *, side_px: int, clips: dict[str, NDArray[np.uint8]] | None = None
    ) -> None:
        """Index the clips. Raises as `ShardWindows` does.

        Args:
            folder: of the corpus.
            config: what a batch is made of; `size_px` are the pictures to decode.
            side_px: of the pictures that come out.
            clips: decoded clips by key, filled as they are needed: for several readers of one corpus.
        """
        super().__init__(folder, replace(config, arrays=False))
        self.side_px = side_px
        self._clips: dict[str, NDArray[np.uint8]] = {} if clips is None else clips

    def _read(self, clip: int, wanted: Sequence[int], *, sound: bool) -> "_Window":
        place = self._places[clip]
        key = place.info.key
        if key not in self._clips:
            video, side = f"{self.config.size_px}.mp4", (self.side_px, self.side_px)
            whole = decode_frames(place.read([video])[video], range(place.info.num_frames), key)
            self._clips[key] = np.stack([np.asarray(cv2.resize(one, side, interpolation=cv2.INTER_AREA)) for one in whole])
        return _Window(key=key, first=wanted[0], frames=self._clips[key][list(wanted)])


Batch = TypeVar("Batch")


def window_loader(
    windows: Dataset[Batch], *, start: int = 0, num_workers: int = 0, rank: int = 0, world_size: int = 1, prefetch: int = 2
) -> DataLoader[Batch]:
    """Batches start, start + 1, ... in order and without end, decoded in worker processes.

    Args:
        windows: the corpus: item i is batch i.
        start: steps already done: a run that stopped after n batches goes on with `start=n`.
        num_workers: processes that decode; 0 decodes in this one.
        rank: of this machine or GPU among `world_size`; each gets batches of its own.
        world_size: how many train together.
        prefetch: batches that each worker keeps ready.
    """
    return DataLoader(
        windows,
        batch_size=None,
        sampler=_Steps(start * world_size + rank, world_size),
        num_workers=num_workers,
        prefetch_factor=prefetch if num_workers else None,
        persistent_workers=False,
        multiprocessing_context=_START_METHOD if num_workers else None,
    )


# A fork would share the threads and locks of whoever trains; a spawned worker now and then aborts as it ends.
_START_METHOD = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"


class _Steps(Sampler[int]):
    """first, first + step, ... without end."""

    def __init__(self, first: int, step: int) -> None:
        self.first, self.step = first, step

    def __iter__(self) -> Iterator[int]:
        return count(self.first, self.step)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    info: ClipInfo
    url: str
    members: dict[str, tuple[int, int]]

    def read(self, suffixes: Sequence[str]) -> dict[str, bytes]:
        """Members in one piece, for they lie side by side and a store answers every request late."""
        spans = {suffix: self.members[suffix] for suffix in suffixes}
        first = min(start for start, _ in spans.values())
        piece = read_bytes(self.url, first, max(start + length for start, length in spans.values()))
        return {suffix: piece[start - first : start - first + length] for suffix, (start, length) in spans.items()}


@dataclass(kw_only=True, slots=True)
class _Window:
    key: str
    first: int
    frames: NDArray[np.uint8]
    samples: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    arrays: dict[str, NDArray] = field(default_factory=dict)
    references: list["_Window"] = field(default_factory=list)

    def part(self, start: int, stop: int) -> "_Window":
        """Some of its frames, with all of its sound."""
        arrays = {name: values[start:stop] for name, values in self.arrays.items()}
        return replace(self, frames=self.frames[start:stop], arrays=arrays)


def _collate(windows: list[_Window], config: WindowConfig) -> WindowBatch:
    references = [window.references for window in windows]
    num_references = len(references[0])

    def of_references(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Tensor:
        rows = [[getattr(one, name) if name == "frames" else one.arrays[name] for one in row] for row in references]
        return torch.from_numpy(np.array(rows, dtype).reshape(len(rows), num_references, *shape))

    size = windows[0].frames.shape[1]
    return WindowBatch(
        frames=torch.from_numpy(np.stack([window.frames for window in windows])),
        references=of_references("frames", (size, size, 3), np.uint8),
        samples=torch.from_numpy(np.stack([window.samples for window in windows])),
        landmarks=torch.from_numpy(np.stack([w.arrays["landmarks"] for w in windows])) if config.arrays else None,
        reference_landmarks=of_references("landmarks", (NUM_LANDMARKS, 3), np.float32) if config.arrays else None,
        labels=_labels(windows, config.num_frames) if config.arrays else None,
        keys=tuple(window.key for window in windows),
        first_frames=tuple(window.first for window in windows),
        reference_keys=tuple(tuple(one.key for one in row) for row in references),
    )


def _labels(windows: list[_Window], num_frames: int) -> Labels:
    values: dict[str, Tensor] = {}
    for name, kind in LABELS.items():
        shape = (num_frames, len(kind.columns)) if kind.columns else (num_frames,)
        dtype = np.int64 if kind.classes else np.float32
        rows = [window.arrays.get(name, np.zeros(shape, dtype)).astype(dtype) for window in windows]
        values[name] = torch.from_numpy(np.stack(rows))
    present = torch.tensor([[name in window.arrays for name in LABELS] for window in windows])
    return Labels(**values, present=present)
