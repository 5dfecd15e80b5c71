"""Portraits for training, rigged in turn: re-framed, re-shaped, some with another's face blended in. So few become many."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.data.corpus import Portraits
from vivavoz.data.hybrid import Face, blend_faces
from vivavoz.rig.rig import Rig


@dataclass(frozen=True, kw_only=True)
class DeckConfig:
    """How portraits become the rigs that batches draw from."""

    num_rigs: int = 12
    """Portraits that neighbouring batches draw from."""
    batches_per_deal: int = 48
    """So many batches share them, before the next take their place."""
    max_zoom: float = 1.2
    """Largest random enlargement of the portrait."""
    reshape: float = 0.08
    """Standard deviation of the random stretch, shear and roll (in radians) of a portrait."""
    hybrid_odds: float = 0.0
    """How often a portrait is given skin and shape of another's face, in part or wholly."""
    seed: int = 0


class RigDeck:
    """Portraits dealt out as rigs; what a batch gets depends on its number and the config's seed alone. Neighbouring batches are
    quick, as they share their rigs."""

    def __init__(self, portraits: Portraits, config: DeckConfig) -> None:
        self.portraits, self.config = portraits, config
        self._deal = -1
        self._rigs: list[Rig] = []

    def rigs(self, batch: int) -> list[Rig]:
        """The portraits that batch number `batch` draws from; in the long run each has its turn as often as any other."""
        config = self.config
        deal = batch // config.batches_per_deal
        if deal != self._deal:
            count = len(self.portraits.images)
            self._rigs = []
            for turn in range(deal * config.num_rigs, (deal + 1) * config.num_rigs):
                order = np.random.default_rng([config.seed, 1, turn // count]).permutation(count)
                self._rigs.append(self._rig(int(order[turn % count]), np.random.default_rng([config.seed, 2, turn])))
            self._deal = deal
        return self._rigs

    def _rig(self, index: int, rng: np.random.Generator) -> Rig:
        """Rig a portrait in a slightly different framing and shape, maybe with another's face."""
        config, face = self.config, self._face(index)
        if rng.random() < config.hybrid_odds:
            other = self._face(int(rng.integers(len(self.portraits.images))))
            face = blend_faces(face, other, skin=float(rng.uniform(0.2, 1.0)), shape=float(rng.uniform(0.0, 0.8)))
        image, landmarks, matte = face.image, face.landmarks, face.matte
        side = image.shape[0]
        zoom = float(rng.uniform(1.0, config.max_zoom))
        room = side * (1 - 1 / zoom)
        corner = np.array([rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.6)]) * room
        matrix = zoom * reshaping(config.reshape, rng)
        centre = np.array([side / 2, side / 2])
        offset = zoom * (centre - corner) - matrix @ centre
        # Landmarks count from the corner of the first pixel, warpAffine from its centre.
        half = np.full(2, 0.5)
        bend = np.column_stack([matrix, matrix @ half + offset - half])
        framed = cv2.warpAffine(image, bend, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        if matte is not None:
            matte = np.asarray(cv2.warpAffine(matte, bend, (side, side), borderMode=cv2.BORDER_REFLECT_101), np.uint8)
        moved = np.column_stack([landmarks[:, :2] @ matrix.T + offset, landmarks[:, 2] * np.sqrt(np.linalg.det(matrix))])
        return Rig.from_image(np.ascontiguousarray(framed), moved.astype(np.float32), matte)

    def _face(self, index: int) -> Face:
        return Face(self.portraits.images[index], self.portraits.landmarks[index], self.portraits.matte(index))


def reshaping(deviation: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random map (2, 2) that keeps areas about as they are: a stretch, a shear and a turn, each at most twice `deviation`."""
    stretch, shear, turn = np.clip(rng.normal(0, deviation, 3), -2 * deviation, 2 * deviation)
    cos, sin = np.cos(turn), np.sin(turn)
    sheared = np.array([[1.0, shear / 2], [0.0, 1.0]])
    return np.array([[cos, -sin], [sin, cos]]) @ sheared @ np.diag([np.exp(stretch / 2), np.exp(-stretch / 2)])
