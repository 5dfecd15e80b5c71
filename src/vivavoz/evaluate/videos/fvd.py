"""Frechet video distance over 25 pictures: FVD25 of the paper's tables.

T. Unterthiner et al., "Towards accurate generative models of video" (2018), with the I3D network as TorchScript that I.
Skorokhodov et al. published with StyleGAN-V (`i3d_torchscript.pt`, the numbers of the TensorFlow original but for the
resizing): 400 features before the softmax, pictures resized to 224 x 224 by the network. Moments as in StyleGAN-V: covariance
over n, not n - 1.

Legend: n windows, D features, T = 25 pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vivavoz.errors import DataError, WeightsError

WINDOW_FRAMES = 25
FEATURES = 400


@dataclass(frozen=True, slots=True, eq=False)
class VideoFeatures:
    """I3D, which turns windows of pictures into features."""

    network: torch.jit.ScriptModule
    device: torch.device

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (n, 400) of the T // 25 windows of a clip (T, H, W, 3) that lie one after another."""
        windows = [frames[start : start + WINDOW_FRAMES] for start in range(0, len(frames) - WINDOW_FRAMES + 1, WINDOW_FRAMES)]
        rows = [np.zeros((0, FEATURES), np.float32)]
        for window in windows:
            video = torch.from_numpy(np.ascontiguousarray(window)).permute(3, 0, 1, 2)[None].float().to(self.device)
            rows.append(self.network(video, rescale=True, resize=True, return_features=True).float().cpu().numpy())
        return np.concatenate(rows)


def load_i3d(path: Path, device: torch.device | str = "cpu") -> VideoFeatures:
    """I3D from `i3d_torchscript.pt`.

    Raises:
        WeightsError: no TorchScript file, or one that does not give 400 features for a video.
    """
    device = torch.device(device)
    try:
        features = VideoFeatures(torch.jit.load(str(path), map_location=device).eval(), device)
        shape = features(np.zeros((WINDOW_FRAMES, 32, 32, 3), np.uint8)).shape
    except (RuntimeError, ValueError, OSError, torch.jit.Error) as error:  # type: ignore[misc]
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"{path} cannot be used as I3D ({reason}); expected i3d_torchscript.pt of StyleGAN-V") from error
    if shape != (1, FEATURES):
        raise WeightsError(f"{path} gives features of shape {shape}; expected (1, {FEATURES}): i3d_torchscript.pt of StyleGAN-V")
    return features


def frechet_distance(generated: NDArray[np.floating], real: NDArray[np.floating]) -> float:
    """Frechet distance of the Gaussians with the moments of two sets of features (n, D) and (m, D).

    |m_a - m_b|^2 + tr(A + B - 2 (A B)^1/2). With A = X'X and B = Y'Y the trace of the root is the sum of the singular values of
    XY': no root of a matrix is drawn, and fewer windows than features do no harm.

    Raises:
        DataError: fewer than two rows in either.
    """
    if min(len(generated), len(real)) < 2:
        raise DataError(f"got {len(generated)} and {len(real)} windows of {WINDOW_FRAMES} pictures; expected 2 of each at least")
    mean_a, x = _moments(generated)
    mean_b, y = _moments(real)
    roots = np.linalg.svd(x @ y.T, compute_uv=False)
    return float(np.square(mean_a - mean_b).sum() + np.square(x).sum() + np.square(y).sum() - 2 * roots.sum())


def _moments(features: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean (D,), and X of at most D rows with X'X the covariance over n."""
    rows = features.astype(np.float64)
    mean = rows.mean(axis=0)
    x = (rows - mean) / np.sqrt(len(rows))
    return mean, x if len(x) <= x.shape[1] else np.asarray(np.linalg.qr(x, mode="r"))
