"""A person before a background: two layers of a portrait that move apart, and what the person uncovers.

With the portrait `I`, its matte `a` (1 on the person) and the plate `B` (the portrait with the person taken out), a frame whose
pixel shows the person's place `s` before the background's place `b` is `I(s) + (1 - a(s)) (B(b) - B(s))`: the portrait itself
where nothing has moved, and what is left of hair outside the matte goes along with the person. Legend: `S` size of a frame.
"""

import dataclasses
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.rig.matte import Matte
from vivavoz.rig.smoothstep import smoothstep
from vivavoz.rig.warp import sample

Floats: TypeAlias = NDArray[np.float32]

_PLATE_SIDE_PX: Final = 256
"""Side at which the plate is made up: nothing behind the person is known any finer."""
_MIRRORED_PX: Final = (6.0, 20.0)
"""Behind the person's edge, in pixels of the plate: mirrored surroundings up to the first, smooth ones from the second."""
_MIRROR: Final = 0.6
"""How far outside of the edge a place behind it looks, as a share of its own distance."""
_EVEN: Final = 15
"""Side in pixels of the plate of the gaps in the person's outline that are closed before it is mirrored at."""
_FULL: Final = 252
_HALF: Final = 128
_EDGE: Final = 11
"""Side in pixels of the window by which the person's edge is widened: around it the background has some of their colour."""
_SEEN_ERROR: Final = 4.0
"""What the portrait supplies with an error of up to so many of 255 levels it does supply."""
_UNSEEN_ERROR: Final = 32.0
"""From here on it does not."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What parts a portrait into person and background."""

    cover: NDArray[np.uint8]
    """(512, 512): the matte, but at least 1 at the person's widened edge, where the plate is made up."""
    plate: NDArray[np.uint8]
    """(512, 512, 3) RGB: the portrait with the person taken out."""

    @classmethod
    def of(cls, image: NDArray[np.uint8], matte: Matte) -> "Layers | None":
        """The layers of a portrait (512, 512, 3); None where the matte (512, 512) shows no background or no person."""
        widened = np.asarray(cv2.dilate((matte > 8).astype(np.uint8), np.ones((_EDGE, _EDGE), np.uint8)), np.uint8)
        if widened.all() or not widened.any():
            return None
        return cls(cover=np.where(widened > 0, np.maximum(matte, 1), np.uint8(0)), plate=_plate(image, widened))

    def in_background(self, source: Floats) -> NDArray[np.bool_]:
        """Which pixels that would show the person's places `source` (h, w, 2) show the background instead, (h, w)."""
        return self._cover_at(source) < _HALF

    def draw(self, portrait: NDArray[np.uint8], source: Floats, behind: Floats, mask: Floats, sharp: bool) -> Floats:
        """Draw the person from their places `source` before the background from `behind`, both (S, S, 2): (S, S, 3).

        In place, `source` becomes the place of what shows, and `mask` (S, S) learns where the portrait has not got it there.
        """
        cover = self._cover_at(source)
        mixed = np.flatnonzero((cover < _FULL) & ((cover > 0) | (self._cover_behind(behind) > 0)))
        person, background = (np.take(places.reshape(-1, 2), mixed, 0) for places in (source, behind))
        cv2.copyTo(behind, (cover < _HALF).view(np.uint8), source)
        picture = sample(portrait, source, sharp)
        if not len(mixed):
            return picture
        share = 1 - cover.reshape(-1)[mixed].astype(np.float32)[:, None] / 255
        plates = _sample_each(self.plate, np.concatenate([background, person]), sharp=False)
        drawn = _sample_each(portrait, person, sharp) + share * (plates[: len(mixed)] - plates[len(mixed) :])
        pixels = picture.reshape(-1, 3)
        error = np.abs(drawn - np.take(pixels, mixed, 0)).max(1)
        mask.reshape(-1)[mixed] = np.clip((error - _SEEN_ERROR) / (_UNSEEN_ERROR - _SEEN_ERROR), 0, 1)
        pixels[mixed] = drawn
        return picture

    def _cover_behind(self, behind: Floats) -> NDArray[np.uint8]:
        """The same for the background, which a zoom and a shift alone move."""
        step, (x, y) = float(behind[0, 1, 0] - behind[0, 0, 0]), behind[0, 0].astype(np.float64) - 0.5
        size, kind = behind.shape[:2], cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        matrix = np.array([[step, 0, x], [0, step, y]])
        return np.asarray(cv2.warpAffine(self.cover, matrix, size, flags=kind, borderMode=cv2.BORDER_REFLECT_101), np.uint8)

    def _cover_at(self, source: Floats) -> NDArray[np.uint8]:
        places = source - np.float32(0.5)
        return np.asarray(
            cv2.remap(self.cover, places, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.uint8
        )


def _sample_each(picture: NDArray[np.uint8], places: Floats, sharp: bool) -> Floats:
    """Colours (n, 3) at places (n, 2); in rows, as OpenCV fills no picture with a side of 32767 pixels."""
    width = 256
    rows = np.zeros((-(-len(places) // width) * width, 2), np.float32)
    rows[: len(places)] = places
    return sample(picture, rows.reshape(-1, width, 2), sharp).reshape(-1, 3)[: len(places)]


def _plate(image: NDArray[np.uint8], hidden: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The portrait, `hidden` pixels made up: close to the others a mirror image of these, farther in ever smoother colours."""
    side = _PLATE_SIDE_PX
    colours = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    unknown = cv2.resize(hidden * np.uint8(255), (side, side), interpolation=cv2.INTER_AREA)
    # An even outline: a mirror with a jagged edge shows jagged lines.
    unknown = cv2.morphologyEx(unknown, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_EVEN, _EVEN)))
    known = unknown == 0
    if not known.any():
        return np.broadcast_to(image[hidden == 0].mean(0).astype(np.uint8), image.shape).copy()
    filled = _pushed_and_pulled(colours, known.astype(np.float32))
    away, labels = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    of_label, at = np.zeros(int(labels.max()) + 1, np.int64), np.flatnonzero(known)
    of_label[labels.reshape(-1)[at]] = at
    inside = np.flatnonzero(~known & (away < _MIRRORED_PX[1]))
    nearest = of_label[labels.reshape(-1)[inside]]
    ends = np.stack(np.divmod(nearest, side))
    y, x = np.clip(np.rint(ends + _MIRROR * (ends - np.stack(np.divmod(inside, side)))).astype(np.int64), 0, side - 1)
    seen = np.where(known[y, x], y * side + x, nearest)
    pixels, smoother = filled.reshape(-1, 3), smoothstep(*_MIRRORED_PX, away.reshape(-1)[inside])[:, None]
    pixels[inside] = pixels[seen] * (1 - smoother) + pixels[inside] * smoother
    whole = cv2.resize(np.clip(filled + 0.5, 0, 255).astype(np.uint8), hidden.shape[::-1], interpolation=cv2.INTER_LINEAR)
    cv2.copyTo(image, 1 - hidden, whole)
    return np.asarray(whole, np.uint8)


def _pushed_and_pulled(colours: Floats, weight: Floats) -> Floats:
    """`colours` (h, w, 3) where `weight` (h, w) is 1; elsewhere means of ever wider surroundings."""
    height, width = weight.shape
    if min(height, width) <= 2:
        mean = (colours * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-6)
        return np.broadcast_to(mean, colours.shape).astype(np.float32)
    half = (width // 2, height // 2)
    less = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    mean = cv2.resize(colours * weight[..., None], half, interpolation=cv2.INTER_AREA) / np.maximum(less, 1e-6)[..., None]
    wide = cv2.resize(
        _pushed_and_pulled(np.asarray(mean, np.float32), (less > 0).astype(np.float32)),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )
    return np.asarray(wide + (colours - wide) * weight[..., None], np.float32)
