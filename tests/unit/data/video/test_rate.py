from fractions import Fraction

import numpy as np
import pytest

from vivavoz.data.video.rate import at_constant_rate


def frames(times):
    return [(Fraction(time).limit_denominator(1000), np.full((2, 2, 3), index, np.uint8)) for index, time in enumerate(times)]


def sources(times):
    pictures = list(at_constant_rate(frames(times)))
    assert [picture.index for picture in pictures] == list(range(len(pictures)))
    assert all(picture.image[0, 0, 0] == picture.source_index for picture in pictures)
    return [picture.source_index for picture in pictures]


def test_25_frames_a_second_come_out_as_they_went_in():
    assert sources([7 + index / 25 for index in range(100)]) == list(range(100))


@pytest.mark.parametrize("rate", [15, 23.976, 24, 29.97, 30, 50, 60])
def test_any_rate_gives_the_nearest_frame(rate):
    times = [index / rate for index in range(round(4 * rate))]
    seen = sources(times)
    assert abs(len(seen) - 100) <= 1
    for number, index in enumerate(seen):
        assert abs(times[index] - number / 25) <= min(abs(time - number / 25) for time in times) + 1e-3


def test_a_variable_rate_holds_the_last_frame_while_nothing_comes():
    # Halfway, at 0.28 s, the frame before is as near as the next, and is taken.
    assert sources([0, 0.04, 0.08, 0.48, 0.52]) == [0, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4]


def test_times_that_do_not_rise_are_passed_over():
    assert sources([0, 0.04, 0.04, 0.02, 0.08]) == [0, 1, 4]
    assert sources([]) == []
    assert sources([3]) == [0]
