"""The inside of a mouth, painted where the portrait cannot show it: cavity, tongue and teeth in the person's own light.

Lengths are in face heights, in the head's frame: `u` to the right from the middle of the mouth, `v` down from the upper
inner lip of the portrait. Colours are RGB float32 in [0, 255].
"""

import dataclasses
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.rig import landmarks as lm
from vivavoz.rig.expression import inner_gaps
from vivavoz.rig.smoothstep import smoothstep

Floats: TypeAlias = NDArray[np.float32]

_TOOTH_SIDES = np.array([0.0, 0.046, 0.082, 0.114, 0.139, 0.158, 0.172], np.float32)
"""Distances from the middle at which one upper tooth ends and the next begins."""
_LOWER_TOOTH_SIDES = np.array([0.0, 0.028, 0.058, 0.090, 0.116, 0.137, 0.153], np.float32)
_TOOTHY_GAP = 0.012


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mouth:
    """What painting one person's mouth needs."""

    teeth_rgb: Floats
    """Colour of the front teeth, (3,)."""
    light: float
    """Brightness of the person's surroundings, about 0.4 to 1.1."""
    incisal_v: float
    """Where the upper front teeth end."""
    half_width: float
    """Half of the mouth's width."""
    parted: float
    """Gap of the portrait's own lips."""
    lower_curve: NDArray[np.float64] | None
    """Parabola v(u) of the lower lip, highest power first, below which the portrait shows no teeth; None if closed."""
    seen: Floats | None
    """Where the portrait itself shows the mouth's inside, (512, 512) in [0, 1]; None if its lips are closed."""


def measure_mouth(image: NDArray[np.uint8], points_px: NDArray[np.floating], neutral: NDArray[np.floating]) -> Mouth:
    """Take colours and sizes from a portrait (H, W, 3), its landmarks (478, 3) px and the same in the head's frame."""
    whites = np.concatenate([_pixels_inside(image, points_px[list(eye), :2]) for eye in (lm.EYE_LEFT, lm.EYE_RIGHT)])
    white = _bright_mean(whites, 70.0, 95.0)
    cheeks = _pixels_inside(image, points_px[[117, 118, 101, 36, 205, 187, 123], :2])
    cheeks = np.concatenate([cheeks, _pixels_inside(image, points_px[[346, 347, 330, 266, 425, 411, 352], :2])])
    # No skin outshines teeth: bright skin tells of light that narrow eyes hide.
    skin = _bright_mean(cheeks, 50.0, 90.0).mean()
    light = float(np.clip(max(white.mean() / 150.0, skin / 215.0), 0.55, 1.1))
    tint = np.clip(white / max(float(white.mean()), 1.0), 0.88, 1.12)
    teeth = np.array([222.0, 212.0, 196.0]) * light * (0.5 + 0.5 * tint)
    rest = float(inner_gaps(neutral)[5])
    seen, lower_curve = None, None
    if rest > _TOOTHY_GAP:
        inside = _pixels_inside(image, points_px[list(lm.INNER_LIPS), :2])
        shown = _bright_mean(inside, 60.0, 92.0)
        # Bright and hardly red: teeth, rather than tongue or lips.
        if len(inside) > 30 and shown.mean() > 0.55 * teeth.mean() and shown[0] < 1.45 * shown[2] + 10:
            teeth = shown
        seen = _seen_mask(image.shape[0], points_px)
        lower = neutral[list(lm.LOWER_INNER_LIP), :2] - [neutral[[78, 308], 0].mean(), neutral[13, 1]]
        lower_curve = np.polyfit(lower[:, 0], lower[:, 1], 2)
    return Mouth(
        teeth_rgb=teeth.astype(np.float32),
        light=light,
        incisal_v=0.020 + 0.8 * min(rest, 0.036),
        half_width=float(np.clip((neutral[308, 0] - neutral[78, 0]) / 2, 0.11, 0.18)),
        parted=rest,
        lower_curve=lower_curve,
        seen=seen,
    )


def paint_mouth(mouth: Mouth, u: Floats, v: Floats, jaw_drop: float, tongue: float, pixel: float) -> Floats:
    """Colours (h, w, 3) of the mouth's inside at places `u`, `v` (h, w).

    Args:
        mouth: the person's mouth.
        u: places to the right of the middle of the mouth.
        v: places below the upper inner lip at rest.
        jaw_drop: how far the lower jaw is below its closed place.
        tongue: 0 lying, 1 with its tip at the upper teeth.
        pixel: size of a pixel, for soft edges.
    """
    width = mouth.half_width / 0.15
    across = np.asarray(np.abs(u) / width, np.float32)
    cavity = np.array([42.0, 17.0, 16.0], np.float32) * mouth.light
    colour = cavity * (1 - np.float32(0.35) * smoothstep(0.05, 0.13, across))[..., None]

    low = v - jaw_drop
    # An open mouth shows more of its floor; a raised tongue reaches for the upper teeth.
    tongue_top = -0.022 - 0.38 * jaw_drop - tongue * max(0.0, 0.62 * jaw_drop - 0.030) + (across / 0.105) ** 2 * 0.05
    body = smoothstep(-0.012 - pixel, 0.012 + pixel, low - tongue_top) * (1 - smoothstep(0.09, 0.13, across))
    glow = 0.78 + 0.45 * smoothstep(0.0, 0.05, low - tongue_top) - 0.15 * np.exp(-((across / 0.008) ** 2))
    flesh = np.array([196.0, 112.0, 108.0], np.float32) * mouth.light
    colour = _over(colour, np.asarray(flesh * (glow * (0.85 + 0.15 * tongue))[..., None], np.float32), body)

    lower_top = -0.009 - 0.14 * jaw_drop + 0.25 * across**2
    row = smoothstep(-pixel, pixel, low - lower_top) * (1 - smoothstep(0.10, 0.14, across))
    colour = _over(colour, _teeth(mouth, across, _LOWER_TOOTH_SIDES, 0.86, pixel), row)

    # The edge rises from the incisors to the sides; each tooth is a little rounded at its end.
    rounding = 0.004 * _between(across, _TOOTH_SIDES) ** 4
    edge = mouth.incisal_v - 0.9 * across**2 - rounding
    if mouth.lower_curve is not None:  # the portrait's own teeth end where it shows them
        edge = np.minimum(edge, np.polyval(mouth.lower_curve, u) + 0.003)
    upper = (1 - smoothstep(-pixel, pixel, v - edge)) * (1 - smoothstep(0.12, 0.165, across))
    return _over(colour, _teeth(mouth, across, _TOOTH_SIDES, 1.0, pixel), upper)


def _teeth(mouth: Mouth, across: Floats, sides: Floats, brightness: float, pixel: float) -> Floats:
    distance = np.abs(across[..., None] - sides).min(-1)
    gap = 1 - 0.22 * (1 - smoothstep(0.0, 0.0035 + 0.5 * pixel, distance))
    shade = brightness * gap * (1.0 - 0.60 * smoothstep(0.03, 0.16, across))
    return np.asarray(mouth.teeth_rgb * shade[..., None], np.float32)


def _between(across: Floats, sides: Floats) -> Floats:
    """Place within a tooth: 0 in its middle, 1 at its sides."""
    tooth = np.clip(np.searchsorted(sides, across) - 1, 0, len(sides) - 2)
    middle, half = (sides[tooth] + sides[tooth + 1]) / 2, (sides[tooth + 1] - sides[tooth]) / 2
    return np.clip(np.abs(across - middle) / half, 0, 1).astype(np.float32)


def _over(below: Floats, above: Floats, alpha: Floats) -> Floats:
    return np.asarray(below + (above - below) * alpha[..., None], np.float32)


def _pixels_inside(image: NDArray[np.uint8], polygon: NDArray[np.floating]) -> NDArray[np.uint8]:
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1)
    return image[mask > 0]


def _bright_mean(pixels: NDArray[np.uint8], low: float, high: float) -> NDArray[np.float64]:
    """Mean colour of the pixels between two percentiles of brightness; a plain light grey if there are none."""
    if len(pixels) == 0:
        return np.full(3, 175.0)
    brightness = pixels.mean(1)
    chosen = (brightness >= np.percentile(brightness, low)) & (brightness <= np.percentile(brightness, high))
    return np.asarray(pixels[chosen].mean(0), np.float64)


def _seen_mask(size: int, points_px: NDArray[np.floating]) -> Floats:
    upper = points_px[list(lm.UPPER_INNER_LIP), :2].copy()
    lower = points_px[list(lm.LOWER_INNER_LIP), :2].copy()
    # Stay a little off the lower lip, whose edge must not float among the teeth when it moves away.
    lower += 0.12 * (upper - lower)
    polygon = np.concatenate([upper, lower[-2:0:-1]])
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round((polygon - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.8), np.float32) / np.float32(255)
