"""Fidelity of pictures, and how well two tracks move together. Pure functions.

Shapes: N pictures, C channels, H W size, F frames of a track. Pictures are float tensors, in [-1, 1] unless told
otherwise: `data_range` is the distance between black and white, `levels` are both.
"""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def psnr(pictures: Tensor, truth: Tensor, *, data_range: float = 2.0, region: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB of every picture (N, C, H, W), (N,); infinite for equal pictures.

    With `region` (N, H, W) only the pixels where it is not zero count; NaN for a picture without any.
    """
    squared = (pictures - truth).square().mean(dim=1)
    if region is None:
        error = squared.mean(dim=(1, 2))
    else:
        inside = (region != 0).to(squared.dtype)
        error = (squared * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2))
    return 10 * torch.log10(data_range**2 / error)


def ssim(pictures: Tensor, truth: Tensor, *, levels: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """Structural similarity of every picture (N, C, H, W), (N,): the mean over channels and over all whole windows.

    As published (Wang et al. 2004): a Gaussian window of 11 x 11 pixels and deviation 1.5, K1 = 0.01, K2 = 0.03. It compares
    means too, which count from black: `levels` are those of black and white.
    """
    black, white = levels
    c1, c2 = (SSIM_K1 * (white - black)) ** 2, (SSIM_K2 * (white - black)) ** 2
    x, y = pictures.double() - black, truth.double() - black  # variances are small differences of large numbers
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x * mean_x
    variance_y = _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3)).float()


def _blur(x: Tensor) -> Tensor:
    """Gaussian mean over every window that lies wholly inside, (N, C, H - 10, W - 10)."""
    densities = [math.exp(-0.5 * ((place - SSIM_WINDOW_PX // 2) / SSIM_SIGMA_PX) ** 2) for place in range(SSIM_WINDOW_PX)]
    weights = [density / sum(densities) for density in densities]
    # Weighted sums of shifted pictures: a convolution of float64 unfolds them, and takes longer.
    for dim in (2, 3):
        length = x.shape[dim] - SSIM_WINDOW_PX + 1
        blurred = weights[0] * x.narrow(dim, 0, length)
        for shift in range(1, SSIM_WINDOW_PX):
            blurred = torch.add(blurred, x.narrow(dim, shift, length), alpha=weights[shift])
        x = blurred
    return x


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's r of two tracks (F,); NaN when one of them does not vary, or for fewer than two frames."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"tracks of shapes {x.shape} and {y.shape}; expected two of one length")
    if len(x) < 2:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / scale if scale > 0 else float("nan")


def best_lag(track: NDArray[np.floating], truth: NDArray[np.floating], *, max_lag_frames: int = 5) -> tuple[int, float]:
    """The delay of `track` behind `truth`, in frames, at which they correlate best, and that r. Positive: `track` is late."""
    found = {}
    for lag in sorted(range(-max_lag_frames, max_lag_frames + 1), key=abs):
        late, early = (track[lag:], truth[: len(truth) - lag]) if lag >= 0 else (track[:lag], truth[-lag:])
        r = pearson(late, early)
        if not np.isnan(r):
            found[lag] = r
    if not found:
        return 0, float("nan")
    lag = max(found, key=lambda lag: found[lag])
    return lag, found[lag]
