import numpy as np
import pytest

from vivavoz.data.emotions import SHAPES, Expression, Feelings, random_feelings
from vivavoz.errors import DataError
from vivavoz.rig.motion import MOTION


def test_every_expression_has_a_shape_of_known_columns_and_no_two_are_alike() -> None:
    assert set(SHAPES) == set(Expression)
    assert {name for shape in SHAPES.values() for name in shape} <= set(MOTION)
    shapes = [tuple(sorted(shape.items())) for shape in SHAPES.values()]
    assert len(set(shapes)) == len(Expression)


def test_random_feelings_change_smoothly_and_are_all_felt() -> None:
    feelings = random_feelings(25 * 600, seed=0)
    assert np.abs(np.diff(feelings.weights, axis=0)).max() < 0.2
    shares = np.bincount(feelings.expressions(), minlength=len(Expression)) / len(feelings.weights)
    assert 0.15 < shares[Expression.NEUTRAL] < 0.55
    assert shares.min() > 0.02
    assert np.array_equal(feelings.weights, random_feelings(25 * 600, seed=0).weights)
    assert not np.array_equal(feelings.weights, random_feelings(25 * 600, seed=1).weights)


def test_labels_name_what_shows_most() -> None:
    feelings = Feelings.hold(3, Expression.ANGRY, 0.6)
    assert feelings.expressions().tolist() == [Expression.ANGRY] * 3
    assert np.allclose(feelings.intensities(), 0.6)
    assert np.allclose(feelings.added("brow"), 0.6 * SHAPES[Expression.ANGRY]["brow"])
    faint = Feelings.hold(2, Expression.ANGRY, 0.05)
    assert faint.expressions().tolist() == [Expression.NEUTRAL] * 2
    assert not faint.intensities().any()


@pytest.mark.parametrize("weights", [np.zeros(7), np.zeros((4, 6)), np.full((4, 7), 1.5)])
def test_refuses_what_is_no_table_of_intensities(weights: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected"):
        Feelings(weights=weights)
