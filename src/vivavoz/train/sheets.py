"""What a training shows of itself: contact sheets for TensorBoard.

Shapes: N pictures, C channels, H W size. Sheets are (H, W, 3) uint8 RGB; pictures that go in are RGB in [-1, 1].
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivavoz.flow.noise import gaussian_like
from vivavoz.flow.sampler import Velocity, euler
from vivavoz.flow.schedule import flow_times

Sheet = NDArray[np.uint8]

TILE_PX = 96
CELL_PX = 6
MAX_COLUMNS = 9
_REDRAWN_STEPS = 4


def film(rows: Sequence[Tensor]) -> Sheet:
    """Rows of pictures (N, 3, H, W), each `TILE_PX` wide; of long rows `MAX_COLUMNS` at even distances. Short ones end grey."""
    strips = []
    for row in rows:
        chosen = row[[i * len(row) // MAX_COLUMNS for i in range(MAX_COLUMNS)]] if len(row) > MAX_COLUMNS else row
        levels = ((chosen.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        tiles = [np.asarray(cv2.resize(tile, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)) for tile in levels]
        strips.append(np.concatenate(tiles, axis=1) if tiles else np.zeros((TILE_PX, 0, 3), np.uint8))
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=128) for strip in strips]
    return np.concatenate(padded)


def grey(levels: Tensor) -> Tensor:
    """(N, 1, H, W) in [0, 1] as pictures (N, 3, H, W)."""
    return (2 * levels - 1).expand(-1, 3, -1, -1)


def flow_colours(flow: Tensor) -> Tensor:
    """Flows (N, 2, H, W) as pictures: the hue is the direction, the light how far, up to a tenth of the picture's side."""
    x, y = flow.detach().float().cpu().unbind(1)
    angle = torch.atan2(y, x) * (90 / torch.pi) + 90
    far = (torch.hypot(x, y) / 0.2).clamp(0, 1) * 255
    hsv = torch.stack([angle.clamp(0, 179), torch.full_like(far, 255), far], dim=-1).to(torch.uint8).numpy()
    colours = np.stack([cv2.cvtColor(one, cv2.COLOR_HSV2RGB) for one in hsv])
    return torch.from_numpy(colours).permute(0, 3, 1, 2).float() / 127.5 - 1


def tracks(truth: Tensor, found: Tensor) -> Sheet:
    """Two tables (rows, columns) above each other, in the colours of the first's range: what is true, and what was found."""
    truth, found = (table.detach().float().cpu() for table in (truth, found))
    low, high = float(truth.min()), float(truth.max())
    both = torch.cat([truth, torch.full_like(truth[:1], low), found])
    levels = ((both - low) / max(high - low, 1e-6) * 255).clamp(0, 255).to(torch.uint8).numpy()
    coloured = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    coloured[len(truth)] = 255
    return np.asarray(coloured.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1), np.uint8)


def redraw(velocity: Velocity, clean: Tensor) -> Tensor:
    """Every block of a window drawn anew, each given the true past: what teacher forcing learns, in a few steps of Euler.

    `velocity(z, flow_time)`: of `z` like `clean`, with `clean` as context. The noise is always the same.
    """
    noise = gaussian_like(clean, torch.Generator().manual_seed(0))
    return euler(velocity, noise, flow_times(_REDRAWN_STEPS, device=clean.device))
