import pytest
import torch
from torch import nn

from vivavoz.errors import ConfigError
from vivavoz.flow.distillation import chords
from vivavoz.flow.sampler import euler
from vivavoz.flow.schedule import flow_times

MEAN, STD = 2.0, 0.3


def exact_velocity(z, flow_time):
    """Of data drawn from a Gaussian: E[noise - data | z] for `z = t * noise + (1 - t) * data`."""
    t = flow_time
    off = (z - (1 - t) * MEAN) / (t**2 + (1 - t) ** 2 * STD**2)
    return t * off - (MEAN + (1 - t) * STD**2 * off)


def landing(noise):
    """Where the exact flow brings noise: it keeps every point's quantile."""
    return MEAN + STD * noise


def noises(count, seed=0):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_the_toy_flow_is_the_one_in_closed_form():
    torch.testing.assert_close(
        euler(exact_velocity, noises(100), flow_times(500, shift=1)), landing(noises(100)), atol=0.01, rtol=0
    )


def test_a_step_along_the_target_lands_where_the_teachers_steps_land():
    ((_, target),) = chords(exact_velocity, exact_velocity, noises(100), flow_times(500, shift=1), 1)
    torch.testing.assert_close(noises(100) - target, landing(noises(100)), atol=0.01, rtol=0)
    # One step of the teacher's own lands at the mean, wherever it starts.
    torch.testing.assert_close(noises(100) - exact_velocity(noises(100), torch.tensor(1.0)), torch.full((100,), MEAN))


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_a_student_of_few_steps_learns_the_exact_flow(num_steps):
    times = flow_times(24, shift=3.0)
    few = flow_times(num_steps, shift=3.0)

    class Student(nn.Module):
        """A line for each of its steps, which is all that this flow takes."""

        def __init__(self):
            super().__init__()
            self.lines = nn.Parameter(torch.zeros(num_steps, 2))

        def forward(self, z, flow_time):
            scale, shift = self.lines[int((few[:-1] - flow_time).abs().argmin())]
            return scale * z + shift

    student = Student()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.1)
    for step in range(150):
        pairs = chords(student, exact_velocity, noises(64, seed=step), times, num_steps)
        sum((velocity - target).square().mean() for velocity, target in pairs).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        found, wanted = euler(student, noises(500, seed=999), few), euler(exact_velocity, noises(500, seed=999), times)
    torch.testing.assert_close(found, wanted, atol=0.01, rtol=0)
    # So it is near the exact flow, as far as 24 steps of Euler are; a single step of the teacher's own is 0.24 off.
    assert float((found - landing(noises(500, seed=999))).abs().mean()) < 0.06


def test_later_steps_begin_where_the_student_landed():
    first, second = chords(lambda z, t: torch.zeros_like(z), lambda z, t: z, torch.ones(3), torch.tensor([1.0, 0.5, 0.0]), 2)
    torch.testing.assert_close(first[1], torch.ones(3))
    torch.testing.assert_close(second[1], torch.ones(3))  # a teacher's own path would be at 0.5 by then


def test_gradients_flow_into_the_students_velocity_alone():
    weight, other = torch.ones((), requires_grad=True), torch.ones((), requires_grad=True)
    pairs = list(chords(lambda z, t: weight * z, lambda z, t: other * z, torch.ones(3), flow_times(4), 2))
    assert not any(target.requires_grad for _, target in pairs)
    (velocity, _) = pairs[1]
    (gradient,) = torch.autograd.grad(velocity.sum(), weight)
    # d(weight * z) with z held: a path through the first step would add to it.
    torch.testing.assert_close(gradient, velocity.sum().detach())


@pytest.mark.parametrize(("teacher_steps", "num_steps"), [(4, 3), (4, 0), (2, 4)])
def test_steps_that_cannot_be_divided_are_refused(teacher_steps, num_steps):
    with pytest.raises(ConfigError, match=f"{teacher_steps} steps of the teacher cannot be divided among {num_steps}"):
        list(chords(exact_velocity, exact_velocity, noises(2), flow_times(teacher_steps), num_steps))
