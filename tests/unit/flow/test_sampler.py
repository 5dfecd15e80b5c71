import torch

from vivavoz.flow.path import interpolate, velocity_target
from vivavoz.flow.sampler import euler
from vivavoz.flow.schedule import flow_times


def test_exact_on_a_straight_path():
    rng = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, 3, 4, 2, 2, generator=rng), torch.randn(2, 3, 4, 2, 2, generator=rng)
    seen = []

    def velocity(z: torch.Tensor, flow_time: torch.Tensor) -> torch.Tensor:
        seen.append(flow_time.item())
        torch.testing.assert_close(z, interpolate(data, noise, flow_time))
        return velocity_target(data, noise)

    torch.testing.assert_close(euler(velocity, noise, flow_times(12)), data)
    assert seen == flow_times(12)[:-1].tolist()


def test_steps_are_eulers():
    times = torch.tensor([1.0, 0.5, 0.2, 0.0])
    expected = 3.0
    for start, end in [(1.0, 0.5), (0.5, 0.2), (0.2, 0.0)]:
        expected += (end - start) * (expected * start)
    got = euler(lambda z, t: z * t, torch.tensor([3.0]), times)
    torch.testing.assert_close(got, torch.tensor([expected]))


def test_converges_to_the_solution():
    def error(num_steps: int) -> float:
        z = euler(lambda z, t: z, torch.tensor([1.0], dtype=torch.float64), flow_times(num_steps, shift=1).double())
        return abs(z.item() - torch.exp(torch.tensor(-1.0, dtype=torch.float64)).item())

    assert error(64) < 0.55 * error(32) < 0.55**2 * error(16)
