"""Distillation: what a student with few steps has to learn so that it lands where a teacher with many steps lands.

`z` may have any shape. A student's step from `t` to `s` is an Euler step, `z + (s - t) * v`; the teacher goes from `t` to `s` in
several, and the velocity that would have brought the student there at once is the slope of the chord.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vivavoz.errors import ConfigError
from vivavoz.flow.sampler import Velocity, euler


def chords(
    student: Velocity, teacher: Velocity, noise: Tensor, flow_times: Tensor, num_steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The student's velocity at each of its `num_steps` steps, and what it should have been; both of `noise`'s shape.

    `flow_times` are the teacher's, `(n * num_steps + 1,)`; the student visits every n-th. Each of its steps begins where its own
    last step landed, so that it learns to mend what it got wrong. Gradients flow into its velocities alone.

    Raises `ConfigError` where the teacher's steps cannot be divided among the student's.
    """
    num_teacher_steps = flow_times.shape[0] - 1
    if num_steps < 1 or num_teacher_steps % num_steps:
        raise ConfigError(
            f"{num_teacher_steps} steps of the teacher cannot be divided among {num_steps} of the student: choose a multiple"
        )
    size = num_teacher_steps // num_steps
    z = noise
    for first in range(0, num_teacher_steps, size):
        part = flow_times[first : first + size + 1]
        step = part[-1] - part[0]
        with torch.no_grad():
            target = (euler(teacher, z, part) - z) / step
        velocity = student(z, part[0])
        yield velocity, target
        z = z + step * velocity.detach()
