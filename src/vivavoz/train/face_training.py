"""Teaching the face map: pictures of many faces, and the place on the mean face of every pixel (docs/adr/0011-face-map.md).

Shapes: B pictures, H W their size, h w half of it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from vivavoz.data.corpus import Portraits
from vivavoz.data.performance import perform_random
from vivavoz.data.shards.reading import window_loader
from vivavoz.rig.landmarks import EYE_LEFT, EYE_RIGHT, INNER_LIPS
from vivavoz.rig.rig import RenderedFrame
from vivavoz.timing import FRAME_RATE
from vivavoz.train.clips import light_curve
from vivavoz.train.loop import LoopConfig, Objective, Step
from vivavoz.train.losses import place_error
from vivavoz.train.rig_deck import DeckConfig, RigDeck
from vivavoz.vae.face_map import NUM_PLACES, FaceMap


@dataclass(frozen=True, kw_only=True)
class FaceTraining:
    """Settings of a run."""

    loop: LoopConfig
    batch_size: int = 12
    size: int = 192
    """Side of the pictures in pixels."""
    rest_odds: float = 0.3
    """How often a face is seen as in its portrait: references mostly are."""
    opening_weight: float = 0.5
    """Of telling open mouths and eyes."""
    deck: DeckConfig = field(default_factory=lambda: DeckConfig(batches_per_deal=16, reshape=0.1, max_zoom=1.3, hybrid_odds=0.6))


@dataclass(frozen=True)
class FacePictures:
    """A batch."""

    pictures: Tensor
    """(B, H, W, 3) uint8."""
    places: Tensor
    """(B, NUM_PLACES, h, w): place on the mean face, 0 elsewhere; then 1 on the face, in the open mouth, in open eyes."""


class AnimatedFaces(Dataset[FacePictures]):
    """Endless batches of faces from portraits, by their number.

    Pictures are harder than the animator's: turned, moved, blurred, noisy, compressed, covered in part. A batch depends on its
    number and the deck's seed alone. `performances` are motions (F, len(MOTION)) that half of them are taken from.
    """

    def __init__(self, portraits: Portraits, settings: FaceTraining, performances: Sequence[NDArray[np.float32]] = ()) -> None:
        self.settings, self.performances = settings, performances
        self._deck = RigDeck(portraits, settings.deck)

    def __getitem__(self, index: int) -> FacePictures:
        """Batch number `index`."""
        settings = self.settings
        rigs, rng = self._deck.rigs(index), np.random.default_rng([settings.deck.seed, 3, index])
        motion = perform_random(6 * FRAME_RATE, seed=int(rng.integers(2**31)))
        if len(self.performances) and rng.random() < 0.5:
            motion = self.performances[int(rng.integers(len(self.performances)))]
        images, places = [], []
        for _ in range(settings.batch_size):
            row = None if rng.random() < settings.rest_odds else motion[int(rng.integers(len(motion)))]
            frame = rigs[int(rng.integers(len(rigs)))].render(row, settings.size, flow_size=0, uv_size=settings.size // 2)
            image, moved = _moved(frame.image, _places(frame), rng)
            images.append(_spoilt(image, rng))
            places.append(moved)
        return FacePictures(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(places)))

    def batches(self, *, num_workers: int = 0) -> Callable[[int], Iterable[FacePictures]]:
        """What a training loop takes."""
        return lambda first_step: window_loader(self, start=first_step, num_workers=num_workers, prefetch=4)


class FaceMapObjective(Objective[FacePictures]):
    """How far off the places are, most of all around the mouth, and how badly openings are told."""

    def __init__(self, face_map: FaceMap, settings: FaceTraining) -> None:
        super().__init__()
        self.face_map, self.settings = face_map, settings

    def forward(self, batch: FacePictures, step: Step) -> dict[str, Tensor]:
        """See above."""
        told = self.face_map(batch.pictures.permute(0, 3, 1, 2).float() / 127.5 - 1).places.float()
        opening = F.binary_cross_entropy_with_logits(told[:, 3:], batch.places[:, 3:])
        return {"place": place_error(told[:, :3], batch.places[:, :3]), "opening": self.settings.opening_weight * opening}


def _places(frame: RenderedFrame) -> NDArray[np.float32]:
    """The truth of a picture, (h, w, NUM_PLACES)."""
    side, fine = frame.uv.shape[0], 4
    openings = np.zeros((NUM_PLACES - 3, side * fine, side * fine), np.float32)
    points = np.round(frame.landmarks * (side * fine / frame.image.shape[0]) - 0.5).astype(np.int32)
    for opening, loop in ((0, INNER_LIPS), (1, EYE_LEFT), (1, EYE_RIGHT)):
        cv2.fillPoly(openings[opening], [points[list(loop)]], 1.0)
    small = cv2.resize(openings.transpose(1, 2, 0), (side, side), interpolation=cv2.INTER_AREA)
    return np.concatenate([frame.uv, np.asarray(small, np.float32)], 2)


def _moved(
    image: NDArray[np.uint8], places: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A picture (H, W, 3) turned, sized, moved and maybe mirrored, and its places (NUM_PLACES, h, w)."""
    side, half = image.shape[0], places.shape[0]
    if rng.random() < 0.5:
        image, places = image[:, ::-1], places[:, ::-1] * np.array([-1, 1, 1, 1, 1], np.float32)
    size = float(np.exp(rng.normal(0, 0.12)))
    turn = np.array(cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.normal(0, 7)), size), np.float64)
    turn[:, 2] += rng.normal(0, 0.05 * side, 2)
    border = int(rng.choice([cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT]))
    image = np.asarray(cv2.warpAffine(image, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=border), np.uint8)
    # The same in pixels of the places: the first centre lies half a pixel from the corner in both, and pixels differ.
    moved, corner = turn.copy(), (np.eye(2) - turn[:, :2]) @ np.full(2, 0.5)
    moved[:, 2] = half / side * (turn[:, 2] + corner) - corner
    placed = cv2.warpAffine(np.ascontiguousarray(places), moved, (half, half), flags=cv2.INTER_NEAREST)
    return image, np.ascontiguousarray(placed.transpose(2, 0, 1), np.float32)


def _spoilt(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture (H, W, 3) in other light, maybe grey, blurred, noisy, compressed or covered in part."""
    side = image.shape[0]
    light = light_curve(rng)[image, np.arange(3)].astype(np.float32)
    if rng.random() < 0.15:
        light = np.repeat(light.mean(2, keepdims=True), 3, 2)
    if rng.random() < 0.4:  # a lamp on one side
        along = np.linspace(-1, 1, side, dtype=np.float32) * float(rng.normal(0, 0.25))
        light = light * np.exp(along[None, :, None] if rng.random() < 0.5 else along[:, None, None])
    if rng.random() < 0.3:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), float(rng.uniform(0.4, 1.6))), np.float32)
    if rng.random() < 0.3:
        light = light + rng.normal(0, rng.uniform(2, 12), light.shape).astype(np.float32)
    spoilt = np.clip(255 * np.clip(light / 255, 0, 1) ** np.exp(rng.normal(0, 0.2)) + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        _, data = cv2.imencode(".jpg", spoilt, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 60))])
        spoilt = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    if rng.random() < 0.3:  # something before the face: its places stay, the rest of the face tells them
        low, extent = rng.integers(0, side, 2), rng.integers(side // 16, side // 5, 2)
        spoilt[low[1] : low[1] + extent[1], low[0] : low[0] + extent[0]] = rng.integers(0, 256, 3)
    return spoilt
