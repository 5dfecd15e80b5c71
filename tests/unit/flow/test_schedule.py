import pytest
import torch

from vivavoz.errors import ConfigError
from vivavoz.flow.schedule import flow_times, shift_flow_time


@pytest.mark.parametrize("shift", [0.5, 1.0, 5.0])
@pytest.mark.parametrize("num_steps", [1, 2, 12])
def test_times_fall_from_one_to_zero(num_steps, shift):
    times = flow_times(num_steps, shift=shift)
    assert times.shape == (num_steps + 1,)
    assert (times[0], times[-1]) == (1, 0)
    assert (times.diff() < 0).all()


def test_default_is_the_papers():
    evenly = [1 - step / 12 for step in range(13)]
    expected = torch.tensor([5 * t / (1 + 4 * t) for t in evenly])
    torch.testing.assert_close(flow_times(), expected)


def test_shift_of_one_changes_nothing():
    times = torch.linspace(0, 1, 7)
    torch.testing.assert_close(shift_flow_time(times, 1.0), times)


def test_impossible_schedules_are_refused():
    with pytest.raises(ConfigError, match="num_steps"):
        flow_times(0)
    with pytest.raises(ConfigError, match="shift"):
        flow_times(4, shift=0)
