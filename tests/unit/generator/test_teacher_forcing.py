import torch

from vivavoz.generator.teacher_forcing import draw_audio_drop, draw_control_presence, draw_reference_mask


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_audio_is_dropped_one_time_in_ten():
    assert abs(draw_audio_drop(20_000, rng()).float().mean() - 0.1) < 0.01


def test_one_to_three_references_at_any_place_or_none():
    mask = draw_reference_mask(20_000, 3, rng())
    count = mask.sum(1)
    shares = torch.bincount(count, minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.3, 0.3, 0.3]), rtol=0, atol=0.015)
    singles = mask[count == 1].float().mean(0)
    torch.testing.assert_close(singles, torch.full((3,), 1 / 3), rtol=0, atol=0.03)


def test_controls_are_dropped_each_on_its_own_for_a_whole_window():
    present = draw_control_presence(20_000, 5, rng())
    assert present.shape == (20_000, 5, 4)
    assert (present == present[:, :1]).all()
    assert abs(present.float().mean() - 0.9) < 0.01
    all_dropped = ~present[:, 0].any(1)
    assert all_dropped.float().mean() < 0.01


def test_draws_repeat_with_their_seed():
    for draw in (lambda g: draw_audio_drop(64, g), lambda g: draw_reference_mask(64, 3, g)):
        assert torch.equal(draw(rng(1)), draw(rng(1)))
        assert not torch.equal(draw(rng(1)), draw(rng(2)))
