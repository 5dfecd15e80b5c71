import torch

from vivavoz.flow.path import expand_flow_time, interpolate, velocity_target


def test_path_runs_from_data_to_noise_at_constant_velocity():
    rng = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, 3, 4, 2, 2, generator=rng), torch.randn(2, 3, 4, 2, 2, generator=rng)
    assert torch.equal(interpolate(data, noise, torch.zeros(2)), data)
    assert torch.equal(interpolate(data, noise, torch.ones(2)), noise)
    slope = (interpolate(data, noise, torch.tensor(0.75)) - interpolate(data, noise, torch.tensor(0.25))) / 0.5
    torch.testing.assert_close(slope, velocity_target(data, noise))


def test_flow_times_belong_to_rows_and_latents():
    data, noise = torch.zeros(2, 1, 3, 1, 1), torch.ones(2, 1, 3, 1, 1)
    per_row = interpolate(data, noise, torch.tensor([0.2, 0.9]))
    torch.testing.assert_close(per_row[:, 0, :, 0, 0], torch.tensor([[0.2] * 3, [0.9] * 3]))
    per_latent = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    torch.testing.assert_close(interpolate(data, noise, per_latent)[:, 0, :, 0, 0], per_latent)
    assert expand_flow_time(torch.tensor(0.5), data).shape == (1, 1, 1, 1, 1)
