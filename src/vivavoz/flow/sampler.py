"""Solving the flow's differential equation from noise to data."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""`velocity(z, flow_time) -> v`: `z` and `v` of one shape, `flow_time` a scalar tensor `()`."""


def euler(velocity: Velocity, noise: Tensor, flow_times: Tensor) -> Tensor:
    """Integrate `dz/dt = velocity(z, t)` along `flow_times` (`(num_steps + 1,)`, falling) with Euler steps.

    `noise` is `z` at `flow_times[0]`; returns `z` at `flow_times[-1]`. One call of `velocity` per step, times handed on as
    tensors so that a compiled velocity is not specialised to them.
    """
    z = noise
    for step in range(flow_times.shape[0] - 1):
        z = z + (flow_times[step + 1] - flow_times[step]) * velocity(z, flow_times[step])
    return z
