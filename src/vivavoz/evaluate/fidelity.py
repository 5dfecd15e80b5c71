"""A rebuilt clip against the true one: L1, PSNR, SSIM, a perceptual distance, and the mouth apart.

Shapes: T frames, H W size. Pictures are uint8 (T, H, W, 3); tensors (1, 3, T, H, W) are in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivavoz.engine.runtime import decode_pictures
from vivavoz.evaluate.metrics import psnr, ssim
from vivavoz.rig.landmarks import OUTER_LIPS
from vivavoz.train.perceptual import Perceptual
from vivavoz.vae.vae import VAE, References

MOUTH_MARGIN = 1.3
"""The region around the mouth is the lips' outline, enlarged this much."""
_PERCEPTUAL_EVERY_FRAMES = 8
"""The perceptual distance costs as much as decoding: it looks at every eighth picture."""
_MOST_DB = 100.0
"""PSNR of equal pictures, which would be infinite: so that means stay finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Means over the pictures of one clip."""

    num_frames: int
    l1: float
    """Of levels from 0 to 1."""
    psnr_db: float
    ssim: float
    perceptual: float
    mouth_psnr_db: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureScores:
    """A number for every picture of a clip."""

    l1: list[float]
    """Of levels from 0 to 1."""
    psnr_db: list[float]
    """Equal pictures count as 100 dB."""
    ssim: list[float]


def score_pictures(pictures: NDArray[np.uint8], truth: NDArray[np.uint8]) -> PictureScores:
    """Pictures (T, H, W, 3) against the true ones."""
    scores = PictureScores(l1=[], psnr_db=[], ssim=[])
    for pair in zip(pictures, truth, strict=True):  # one by one they stay in the processor's cache
        a, b = (to_video(image[None])[:, :, 0] for image in pair)
        scores.l1.append(float((a - b).abs().mean()) / 2)
        scores.psnr_db.append(float(psnr(a, b).clamp_max(_MOST_DB)))
        scores.ssim.append(float(ssim(a, b)))
    return scores


def compare(
    pictures: NDArray[np.uint8], truth: NDArray[np.uint8], mouth: NDArray[np.uint8], perceptual: Perceptual
) -> Comparison:
    """Pictures (T, H, W, 3) against the true ones; `mouth` (T, H, W) is 1 on and around the mouth."""
    scores = score_pictures(pictures, truth)
    a, b = to_video(pictures)[0].transpose(0, 1), to_video(truth)[0].transpose(0, 1)
    some = slice(_PERCEPTUAL_EVERY_FRAMES // 2 if len(a) > _PERCEPTUAL_EVERY_FRAMES // 2 else 0, None, _PERCEPTUAL_EVERY_FRAMES)
    return Comparison(
        num_frames=len(a),
        l1=fmean(scores.l1),
        psnr_db=fmean(scores.psnr_db),
        ssim=fmean(scores.ssim),
        perceptual=float(perceptual.distance(a[some], b[some])),
        mouth_psnr_db=float(psnr(a, b, region=torch.from_numpy(mouth)).clamp_max(_MOST_DB).mean()),
    )


def pooled(comparisons: Sequence[Comparison]) -> Comparison:
    """Many clips as one: means over all pictures."""
    weights = [comparison.num_frames for comparison in comparisons]

    def mean(values: Sequence[float]) -> float:
        return float(np.average(values, weights=weights))

    return Comparison(
        num_frames=sum(weights),
        l1=mean([one.l1 for one in comparisons]),
        psnr_db=mean([one.psnr_db for one in comparisons]),
        ssim=mean([one.ssim for one in comparisons]),
        perceptual=mean([one.perceptual for one in comparisons]),
        mouth_psnr_db=mean([one.mouth_psnr_db for one in comparisons]),
    )


def rebuild(vae: VAE, z: Tensor, references: References) -> NDArray[np.uint8]:
    """Latents (1, C, N, h, w) of a clip to its pictures (T, H, W, 3), as a stream shows them."""
    state = vae.init_decoder_state(1, z.shape[3], z.shape[4], references.num_references)
    return np.asarray(decode_pictures(vae, z, references, state)[0].cpu().numpy(), np.uint8)


def mouth_region(landmarks: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """(size, size): 1 inside the convex outline of the lips, enlarged about its centre; `landmarks` (478, 2) in pixels."""
    outline = landmarks[list(OUTER_LIPS), :2]
    centre = outline.mean(axis=0)
    hull = cv2.convexHull(np.round((outline - centre) * MOUTH_MARGIN + centre).astype(np.int32))
    region = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(region, hull, 1)
    return region


def to_video(images: NDArray[np.uint8]) -> Tensor:
    """(T, H, W, 3) uint8 -> (1, 3, T, H, W) float32 in [-1, 1]."""
    return (torch.tensor(images).permute(3, 0, 1, 2).float() / 127.5 - 1)[None]
