import pytest
import torch

from vivavoz.errors import DataError
from vivavoz.evaluate.videos.sync_scores import sync_scores


def walk(num_windows=60, seed=0):
    return torch.randn(num_windows, 16, generator=torch.Generator().manual_seed(seed))


def by_hand(lips, sound, reach):
    """The published loop, window by window and shift by shift."""
    curve = []
    for shift in range(-reach, reach + 1):
        total = 0.0
        for i in range(len(lips)):
            there = sound[i + shift] if 0 <= i + shift < len(sound) else torch.zeros(sound.shape[1])
            total += float(((lips[i] - there + 1e-6) ** 2).sum() ** 0.5)
        curve.append(total / len(lips))
    return curve


@pytest.mark.parametrize("late", [-7, -1, 0, 3, 15])
def test_sound_that_was_moved_is_found(late):
    lips = walk()
    sound = lips.roll(late, dims=0)  # what was heard at i is now heard at i + late
    found = sync_scores(lips, sound)
    assert found.offset_frames == -late
    assert found.confidence > 1


def test_numbers_are_those_of_the_definition():
    lips, sound = walk(20), walk(20, seed=1)
    curve = by_hand(lips, sound, 4)
    found = sync_scores(lips, sound, max_shift_frames=4)
    assert found.distance == pytest.approx(min(curve), rel=1e-5)
    assert found.confidence == pytest.approx(sorted(curve)[4] - min(curve), rel=1e-4)
    assert found.offset_frames == 4 - curve.index(min(curve))


def test_equal_features_have_no_distance():
    lips = walk()
    assert sync_scores(lips, lips).distance < 1e-4


def test_noise_has_little_confidence():
    in_step = sync_scores(walk(200), walk(200)).confidence
    assert sync_scores(walk(200), walk(200, seed=1)).confidence < 0.1 * in_step


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="10 windows of lips and 9"):
        sync_scores(walk(10), walk(9))
    with pytest.raises(DataError, match="0 windows"):
        sync_scores(walk(0), walk(0))
