"""The straight path between data and noise (rectified flow). Shapes: any `(B, ...)`; `t` is flow time, 1 noise, 0 data."""

from __future__ import annotations

from torch import Tensor


def expand_flow_time(flow_time: Tensor, like: Tensor, *, time_dim: int = 2) -> Tensor:
    """Give flow times the axes of `like`.

    `flow_time` is one number `()`, one per row `(B,)`, or one per row and latent frame `(B, N)`; the second axis then goes to
    axis `time_dim` of `like` (2 for `B C T H W`).
    """
    shape = [1] * like.ndim
    if flow_time.ndim >= 1:
        shape[0] = flow_time.shape[0]
    if flow_time.ndim >= 2:
        shape[time_dim] = flow_time.shape[1]
    return flow_time.reshape(shape)


def interpolate(data: Tensor, noise: Tensor, flow_time: Tensor) -> Tensor:
    """Noised data `z_t = t * noise + (1 - t) * data` (section 3.2, algorithm 1).

    `data` and `noise` are `(B, C, T, H, W)`, unit scale; `flow_time` in [0, 1] is `()`, `(B,)` or `(B, T)`.
    """
    t = expand_flow_time(flow_time, data)
    return t * noise + (1 - t) * data


def velocity_target(data: Tensor, noise: Tensor) -> Tensor:
    """What the network learns: `v = noise - data`, constant along the path (equation 3)."""
    return noise - data
