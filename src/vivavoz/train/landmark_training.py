"""Teaching the landmark finder that ships (`vivavoz.rig.finder`): animated portraits, whose landmarks are known to a hair.

Shapes: B pictures, S their side in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from vivavoz.data.corpus import Portraits, Prepared, check_folder, prepare_portraits, split
from vivavoz.data.performance import perform_random
from vivavoz.data.shards.reading import window_loader
from vivavoz.errors import ConfigError
from vivavoz.media.tensors import write_tensors
from vivavoz.rig.finder import (
    FACE_SIDE_PX,
    LIPS,
    MOUTH_SIZE_PX,
    LandmarkFinder,
    PointReader,
    cut,
    into_frame,
    mouth_frame,
)
from vivavoz.rig.landmarks import LOWER_INNER_LIP, NUM_LANDMARKS, UPPER_INNER_LIP, mirrored_order
from vivavoz.rig.warp import PORTRAIT_SIZE_PX
from vivavoz.timing import FRAME_RATE
from vivavoz.train.clips import pictures
from vivavoz.train.loop import LoopConfig, Objective, Step
from vivavoz.train.phases import Phases
from vivavoz.train.recipes import LiteRecipe
from vivavoz.train.rig_deck import DeckConfig, RigDeck
from vivavoz.train.run_folder import Trained, begin_run

_MOTION_FRAMES = 12 * FRAME_RATE


@dataclass(frozen=True, kw_only=True)
class LandmarkTraining:
    """Settings of a run: of each of its two readers, the face's and the mouth's."""

    loop: LoopConfig
    batch_size: int = 32
    pictures_per_deal: int = 320
    """Rendered when rigs are dealt anew; batches draw from them."""
    rest_odds: float = 0.25
    """How often a face is seen as in its portrait."""
    num_render_processes: int = 1
    """More would each render all pictures of a deal."""
    deck: DeckConfig = field(
        default_factory=lambda: DeckConfig(num_rigs=64, batches_per_deal=110, reshape=0.1, max_zoom=1.3, hybrid_odds=0.6)
    )


@dataclass(frozen=True)
class Faces:
    """A batch."""

    pictures: Tensor
    """(B, S, S, 3) uint8."""
    points: Tensor
    """(B, 478, 3) in sides of the picture."""


class PosedFaces(Dataset[Faces]):
    """Endless batches of portraits in random motion at full size, by their number; neighbours share rigs and pictures."""

    def __init__(self, portraits: Portraits, settings: LandmarkTraining) -> None:
        self.settings = settings
        self._deck = RigDeck(portraits, settings.deck)
        self._deal, self._drawn = -1, Faces(torch.empty(0), torch.empty(0))

    def __getitem__(self, index: int) -> Faces:
        """Batch number `index`."""
        settings = self.settings
        deal = index // settings.deck.batches_per_deal
        if deal != self._deal:
            self._drawn, self._deal = self._draw(index, np.random.default_rng([settings.deck.seed, 4, deal])), deal
        rng = np.random.default_rng([settings.deck.seed, 5, index])
        chosen = torch.from_numpy(rng.integers(settings.pictures_per_deal, size=settings.batch_size))
        return Faces(self._drawn.pictures[chosen], self._drawn.points[chosen])

    def batches(self, *, num_workers: int = 0) -> Callable[[int], Iterable[Faces]]:
        """What a training loop takes."""
        return lambda first_step: window_loader(self, start=first_step, num_workers=num_workers, prefetch=4)

    def _draw(self, index: int, rng: np.random.Generator) -> Faces:
        rigs, count = self._deck.rigs(index), self.settings.pictures_per_deal
        pictures = np.empty((count, PORTRAIT_SIZE_PX, PORTRAIT_SIZE_PX, 3), np.uint8)
        points = np.empty((count, NUM_LANDMARKS, 3), np.float32)
        motions = [perform_random(_MOTION_FRAMES, seed=int(rng.integers(2**31))) for _ in rigs]
        for i in range(count):
            rig, motion = rigs[i % len(rigs)], motions[i % len(rigs)]
            row = rig.rest() if rng.random() < self.settings.rest_odds else motion[int(rng.integers(len(motion)))]
            pictures[i] = rig.render(row, PORTRAIT_SIZE_PX, flow_size=0).image
            points[i] = rig.landmarks(row) / PORTRAIT_SIZE_PX
        return Faces(torch.from_numpy(pictures), torch.from_numpy(points))


class FaceReading(Objective[Faces]):
    """How far off all points are in small copies, moved and spoilt; lips count twice."""

    def __init__(self, reader: PointReader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, batch: Faces, step: Step) -> dict[str, Tensor]:
        """See above."""
        pictures, points = face_cuts(batch, step.rng)
        found = self.reader(_covered(_spoilt(pictures, step.rng), step.rng)).float().view_as(points)
        lips = list(LIPS)
        return {"points": _distance(found, points, 100.0), "lips": _distance(found[:, lips], points[:, lips], 100.0)}


class MouthReading(Objective[Faces]):
    """How far off the lips are in cuts of the mouth as a first look might place them, and how wide they seem to gape."""

    def __init__(self, reader: PointReader) -> None:
        super().__init__()
        self.reader = reader
        inner = zip(UPPER_INNER_LIP[1:-1], LOWER_INNER_LIP[1:-1], strict=True)
        self._inner = torch.tensor([[LIPS.index(upper), LIPS.index(lower)] for upper, lower in inner])

    def forward(self, batch: Faces, step: Step) -> dict[str, Tensor]:
        """See above."""
        pictures, lips = mouth_cuts(batch, step.rng)
        found = self.reader(_spoilt(pictures, step.rng)).float().view_as(lips)
        gap, found_gap = (places[:, self._inner[:, 1], 1] - places[:, self._inner[:, 0], 1] for places in (lips, found))
        return {"lips": _distance(found, lips, 40.0), "gap": _distance(found_gap, gap, 40.0)}


def face_cuts(batch: Faces, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Small copies (B, 3, s, s) of pictures, turned, sized, moved, maybe mirrored, and landmarks (B, 478, 3) in their sides."""
    move = _similarities(len(batch.pictures), 0.14, 0.12, 0.08, rng)
    frame = move / 2
    frame[:, :, 2] += 0.5
    copies = cut(pictures(batch.pictures[None])[0], frame, (FACE_SIDE_PX, FACE_SIDE_PX))
    depth = batch.points[..., 2:] / torch.linalg.det(move[:, :, :2]).sqrt()[:, None, None]
    points = torch.cat([into_frame(batch.points[..., :2], frame) / 2 + 0.5, depth], dim=2)
    order = torch.from_numpy(mirrored_order().copy())
    mirrored = points[:, order] * torch.tensor([-1.0, 1, 1]) + torch.tensor([1.0, 0, 0])
    return _maybe_mirrored(copies, points, mirrored, rng)


def mouth_cuts(batch: Faces, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cuts (B, 3, *MOUTH_SIZE_PX) of mouths, off by what a first look may be off, and the lips' places (B, P, 2) in them."""
    move = _similarities(len(batch.pictures), 0.12, 0.10, 0.09, rng)
    last = torch.tensor([0.0, 0.0, 1.0]).expand(len(move), 1, 3)
    frame = mouth_frame(batch.points) @ torch.cat([move, last], dim=1)
    lips = into_frame(batch.points[:, list(LIPS), :2], frame)
    order = torch.tensor([LIPS.index(int(mirrored_order()[point])) for point in LIPS])
    return _maybe_mirrored(
        cut(pictures(batch.pictures[None])[0], frame, MOUTH_SIZE_PX), lips, lips[:, order] * torch.tensor([-1.0, 1]), rng
    )


def landmark_training(minutes: float) -> LandmarkTraining:
    """What the finder that ships was trained by, half of the time for each reader. Raises `ConfigError` where that is no time."""
    if not 0 < minutes < math.inf:
        raise ConfigError(f"got {minutes:g} minutes of training, expected more than 0: 45 is usual")
    loop = LoopConfig(budget_s=30 * minutes, learning_rate=1e-3, final_rate=0.03, weight_decay=2e-2, ema_decay=0.995, bf16=True)
    return LandmarkTraining(loop=loop)


def train_landmarks(
    portraits_dir: Path,
    out: Path,
    settings: LandmarkTraining,
    *,
    report: Callable[[Prepared | Trained], None] | None = None,
) -> Path:
    """Train a finder of landmarks on the portraits of a folder, but those that `lite` holds back, and write it.

    A run that was stopped goes on where it was when called again.

    Args:
        portraits_dir: pictures of faces, one person each.
        out: folder of the run.
        settings: of each of the two readers.
        report: told about every prepared file and, every few steps, about the training.

    Returns:
        The file that was written, which may take the place of `vivavoz/rig/landmark_finder.safetensors`.

    Raises:
        DataError: no such folder, nothing in it that can be used, MediaPipe is missing, or `out` holds another run.
        OutputError: `out` cannot be written.
    """
    check_folder(portraits_dir, "pictures")
    begin_run(out, settings)
    portraits = prepare_portraits(portraits_dir, out / "corpus", report=report)
    seen, _ = split(portraits.names, LiteRecipe.num_held_portraits)
    faces = PosedFaces(portraits.chosen(seen), settings)
    torch.manual_seed(settings.loop.seed)
    finder = LandmarkFinder()
    _begin_at_mean(finder, faces[0])
    phases = Phases(out, 2 * settings.loop.budget_s, report)
    readings: tuple[tuple[str, FaceReading | MouthReading], ...] = (
        ("face", FaceReading(finder.face)),
        ("mouth", MouthReading(finder.mouth)),
    )
    for name, reading in readings:
        if not phases.is_done(name, settings.loop):
            phases.train(name, reading, faces.batches(num_workers=settings.num_render_processes), settings.loop)
        phases.finish(name, settings.loop, part="reader", module=reading.reader)
    path = out / "landmark_finder.safetensors"
    write_tensors(path, {name: tensor.bfloat16() for name, tensor in finder.state_dict().items()}, {"kind": "landmark finder"})
    return path


@torch.no_grad()
def _begin_at_mean(finder: LandmarkFinder, batch: Faces) -> None:
    rng = torch.Generator().manual_seed(0)
    for reader, places in ((finder.face, face_cuts(batch, rng)[1]), (finder.mouth, mouth_cuts(batch, rng)[1])):
        reader.out.bias.copy_(places.flatten(1).mean(dim=0))
        nn.init.normal_(reader.out.weight, std=1e-3)


def _distance(found: Tensor, true: Tensor, scale: float) -> Tensor:
    return F.smooth_l1_loss(scale * found, scale * true, beta=0.5)


def _similarities(count: int, turn: float, size: float, move: float, rng: torch.Generator) -> Tensor:
    """Random turns (radians), enlargements (logarithms) and moves (in half sides), by their deviations: (B, 2, 3)."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    angle, zoom, offset = turn * normal(count), torch.exp(size * normal(count)), move * normal(count, 2)
    cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
    return torch.stack([torch.stack([cos, -sin, offset[:, 0]], 1), torch.stack([sin, cos, offset[:, 1]], 1)], 1)


def _maybe_mirrored(pictures: Tensor, places: Tensor, mirrored: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    flip = torch.rand(len(pictures), generator=rng) < 0.5
    return torch.where(flip[:, None, None, None], pictures.flip(3), pictures), torch.where(flip[:, None, None], mirrored, places)


def _spoilt(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures (B, 3, h, w) in other light, maybe grey, blurred or noisy."""
    count, (height, width) = len(pictures), pictures.shape[-2:]

    def normal(channels: int = 1) -> Tensor:
        return torch.randn(count, channels, 1, 1, generator=rng)

    def sometimes(odds: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=rng) * (torch.rand(count, 1, 1, 1, generator=rng) < odds)

    across, down = torch.linspace(-1, 1, width), torch.linspace(-1, 1, height)[:, None]
    light = 0.12 * normal(3) + 0.2 * normal() + 0.25 * normal() * across + 0.2 * normal() * down
    x = ((pictures + 1) / 2 * torch.exp(light)).clamp(0, 1) ** torch.exp(0.2 * normal())
    x = torch.lerp(x, x.mean(dim=1, keepdim=True), (sometimes(0.1) > 0).to(x))
    small = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    x = torch.lerp(x, F.interpolate(small, size=(height, width), mode="bilinear"), sometimes(0.4))
    x = x + 0.05 * sometimes(0.4) * torch.randn(x.shape, generator=rng)
    return x.clamp(0, 1) * 2 - 1


def _covered(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """Something in front of every fifth picture (B, 3, h, w)."""
    for picture in pictures:
        low, extent = torch.rand(2, generator=rng), torch.randint(8, 28, (2,), generator=rng)
        colour = 2 * torch.rand(3, 1, 1, generator=rng) - 1
        if float(torch.rand((), generator=rng)) < 0.2:
            (y, x), (h, w) = ((low * picture.shape[-1]).int().tolist(), extent.tolist())
            picture[:, y : y + h, x : x + w] = colour
    return pictures
