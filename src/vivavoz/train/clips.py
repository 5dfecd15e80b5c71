"""Animated clips for training the VAE, rendered while it trains: no two steps see the same picture.

Every clip is one portrait, re-framed, re-shaped, lit and maybe mirrored anew, moving at random or as in a performance; its first
reference is the portrait itself, the others are frames of the same person in other poses.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vivavoz.data.corpus import Portraits
from vivavoz.data.performance import perform_random
from vivavoz.data.shards.reading import window_loader
from vivavoz.rig.labels import LABELS
from vivavoz.rig.landmarks import EYE_LEFT, EYE_RIGHT, INNER_LIPS, IRIS_LEFT, IRIS_RIGHT, OUTER_LIPS
from vivavoz.rig.rig import Rig
from vivavoz.timing import FRAME_RATE
from vivavoz.train.rig_deck import DeckConfig, RigDeck

MIRRORED = tuple(
    LABELS.index(name.replace("left", "right") if "left" in name else name.replace("right", "left")) for name in LABELS
)
"""For every label, the label it becomes in a mirrored picture."""
MIRROR_SIGN = np.array([-1.0 if name in ("gaze_x", "yaw", "roll", "centre_x") else 1.0 for name in LABELS], np.float32)

EYES, MOUTH, IRISES = 1.0, 2.0, 3.0
"""Regions of a face that count more than their size."""
_REGIONS = (
    (EYES, EYE_LEFT, 1.5),
    (EYES, EYE_RIGHT, 1.5),
    (MOUTH, OUTER_LIPS + INNER_LIPS, 1.3),
    (IRISES, IRIS_LEFT, 1.8),
    (IRISES, IRIS_RIGHT, 1.8),
)


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """What a batch of animated clips is made of."""

    num_people: int = 3
    """Sets of references in a batch, P."""
    clips_per_person: int = 4
    """Clips that share a set of references, which are costly to encode."""
    num_frames: int = 1
    """Frames in a clip, 1 + 4n."""
    size: int = 256
    """Side of the pictures; the fields (flow, mask) have half of it."""
    reference_odds: tuple[float, ...] = (0.04, 0.6, 0.2, 0.16)
    """How often a batch has 0, 1, 2, 3 references."""
    spoken_odds: float = 0.5
    """How often people move as in a performance, where there are any, rather than at random."""
    mirror: bool = True
    relit: bool = True
    """In another camera's light each time."""
    deck: DeckConfig = field(default_factory=DeckConfig)
    """Whose clips they are; its seed is that of the clips too."""


@dataclass(frozen=True)
class Clips:
    """A batch of clips. Pictures are uint8; see `pictures` for tensors in [-1, 1]."""

    frames: Tensor
    """(B, T, H, W, 3) uint8; B = P people times K clips, a person's clips together."""
    references: Tensor
    """(P, M, H, W, 3) uint8; the first is the portrait itself."""
    labels: Tensor
    """(B, T, L) normalised labels of the frames."""
    reference_labels: Tensor
    """(P, M, L) normalised labels of the references."""
    flow: Tensor
    """(B, M, 2, T, h, w) true backward flow from a frame to every reference."""
    mask: Tensor
    """(B, 1, T, h, w) where the portrait cannot supply the pixel."""
    region: Tensor
    """(B, 1, T, h, w): `EYES`, `MOUTH`, `IRISES`, 0 elsewhere."""

    @staticmethod
    def of_people(clips: Sequence[tuple[NDArray, ...]]) -> "Clips":
        """What `animate` gave of every person, as one batch."""
        frames, references, labels, reference_labels, flow, mask, region = zip(*clips, strict=True)
        return Clips(
            torch.from_numpy(np.concatenate(frames)),
            torch.from_numpy(np.stack(references)),
            torch.from_numpy(np.concatenate(labels)),
            torch.from_numpy(np.stack(reference_labels)),
            *(torch.from_numpy(np.concatenate(parts)) for parts in (flow, mask, region)),
        )


def pictures(images: Tensor) -> Tensor:
    """uint8 (B, N, H, W, 3) -> float (B, N, 3, H, W) in [-1, 1]."""
    return images.permute(0, 1, 4, 2, 3).float() / 127.5 - 1


class AnimatedClips(Dataset[Clips]):
    """Endless batches from portraits, by their number.

    `performances` are motions (F, len(MOTION)) that people perform now and then. A batch depends on its number and the deck's
    seed alone; neighbouring ones are quick, as they share their rigged portraits.
    """

    def __init__(self, portraits: Portraits, config: ClipConfig, performances: Sequence[NDArray[np.float32]] = ()) -> None:
        self.config, self.performances = config, performances
        self._deck = RigDeck(portraits, config.deck)

    def __getitem__(self, index: int) -> Clips:
        """Batch number `index`."""
        config = self.config
        rigs = self._deck.rigs(index)
        rng = np.random.default_rng([config.deck.seed, 0, index])
        num_references = int(rng.choice(len(config.reference_odds), p=config.reference_odds))
        people = rng.integers(len(rigs), size=config.num_people)
        return Clips.of_people([animate(rigs[who], config, num_references, rng, self.performances) for who in people])

    def batches(self, *, num_workers: int = 0, rank: int = 0, world_size: int = 1) -> Callable[[int], Iterable[Clips]]:
        """What a training loop takes: from a step on, the batches of one of so many processes, made by workers of its own."""

        def from_step(first_step: int) -> Iterable[Clips]:
            return window_loader(self, start=first_step, num_workers=num_workers, rank=rank, world_size=world_size, prefetch=4)

        return from_step


def animate(
    rig: Rig,
    config: ClipConfig,
    num_references: int,
    rng: np.random.Generator,
    performances: Sequence[NDArray[np.float32]] = (),
    poses: NDArray[np.float32] | None = None,
) -> tuple[NDArray, ...]:
    """K clips of a rigged portrait with one set of references, in the order of the fields of `Clips`.

    References are the portrait and, at random, others, `num_references` in all; or these `poses` (M, len(MOTION)).
    """
    stride = int(rng.choice([1, 1, 2]))
    clips, count = config.clips_per_person, config.num_frames
    if len(performances) and rng.random() < config.spoken_odds:
        motion = performances[int(rng.integers(len(performances)))]
    else:
        motion = perform_random(max(count * stride, 4 * FRAME_RATE), seed=int(rng.integers(2**31)))
    length = len(motion)
    starts = rng.integers(length - count * stride + 1, size=clips)
    rows = motion[(starts[:, None] + stride * np.arange(count)).reshape(-1)]
    if poses is None:
        anyhow = motion if rng.random() < 0.5 else perform_random(4 * FRAME_RATE, seed=int(rng.integers(2**31)))
        others = anyhow[rng.integers(len(anyhow), size=max(0, num_references - 1))]
        poses = np.concatenate([rig.rest()[None], others])[:num_references]
    rest = rig.rest()
    shown = [None if np.array_equal(pose, rest) else pose for pose in poses]  # at rest it is the portrait itself
    rendered = [rig.render(row, config.size) for row in rows]
    frames = np.stack([frame.image for frame in rendered])
    references = np.zeros((0, *frames.shape[1:]), np.uint8)
    if len(poses):
        references = np.stack([rig.render(pose, config.size, flow_size=0).image for pose in shown])
    labels, reference_labels = rig.labels(rows), rig.labels(poses)
    half = config.size // 2
    flow = np.zeros((len(rows), len(poses), half, half, 2), np.float32)
    for to, frame, row in zip(flow, rendered, rows, strict=True):
        for i, pose in enumerate(shown):
            to[i] = frame.flow if pose is None else rig.flow_between(row, pose, config.size, half)
    mask = np.stack([frame.mask for frame in rendered])
    region = np.stack([face_region(frame.landmarks, config.size) for frame in rendered])
    if config.mirror and rng.random() < 0.5:
        frames, references, mask, region = frames[..., ::-1, :], references[..., ::-1, :], mask[..., ::-1], region[..., ::-1]
        flow = flow[..., ::-1, :] * np.array([-1, 1], np.float32)
        labels, reference_labels = (part[:, list(MIRRORED)] * MIRROR_SIGN for part in (labels, reference_labels))
    if config.relit:
        curve, channels = light_curve(rng), np.arange(3)
        frames, references = curve[frames, channels], curve[references, channels]
    per_clip = (clips, count)
    return (
        frames.reshape(*per_clip, *frames.shape[1:]),
        references,
        np.ascontiguousarray(labels.reshape(*per_clip, -1)),
        np.ascontiguousarray(reference_labels),
        np.ascontiguousarray(flow.reshape(*per_clip, *flow.shape[1:]).transpose(0, 2, 5, 1, 3, 4)),
        np.ascontiguousarray(mask.reshape(clips, 1, count, *mask.shape[1:])),
        np.ascontiguousarray(region.reshape(clips, 1, count, *region.shape[1:])),
    )


def light_curve(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Another camera's light: what becomes of every level of red, green and blue, (256, 3)."""
    gain = np.exp(rng.normal(0, 0.12, 3) + rng.normal(0, 0.15)).astype(np.float32)
    return np.clip(np.arange(256, dtype=np.float32)[:, None] * gain, 0, 255).astype(np.uint8)


def face_region(landmarks: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """What lies where, each with a margin: (size/2, size/2) of `EYES`, `MOUTH`, `IRISES`, and 0 elsewhere.

    `landmarks` (478, 2) are in px.
    """
    region = np.zeros((size // 2, size // 2), np.float32)
    points = landmarks / 2
    for value, outline, margin in _REGIONS:
        hull = points[list(outline)]
        centre = hull.mean(axis=0)
        hull = cv2.convexHull(((hull - centre) * margin + centre).astype(np.int32))
        cv2.fillConvexPoly(region, hull, value)
    return region
