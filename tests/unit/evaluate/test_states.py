import numpy as np
import pytest

from tests.unit.evaluate.material import material, tiniest_model
from tests.unit.rig.test_rig import FACE_PX, face_landmarks
from vivavoz.evaluate.states import StatesConfig, apart, evaluate_states

CONFIG = StatesConfig(num_portraits=1, blocks_before=1, blocks_after=2, size=None)


def test_known_ways_and_grey_levels():
    dark, light = np.zeros((512, 512, 3), np.uint8), np.full((512, 512, 3), 7, np.uint8)

    def find(image):
        return face_landmarks() + np.float32([0.02 * FACE_PX if image[0, 0, 0] else 0, 0, 0])

    ways, levels = apart((dark, dark), (dark, light), find)
    assert ways == pytest.approx([0, 0.02], abs=1e-4)
    assert levels == pytest.approx([0, 7])


def test_streams_differ_from_the_change_on():
    found = evaluate_states(tiniest_model(), material(), CONFIG, lambda image: face_landmarks() * np.float32(64 / 512))
    assert [(change.before, change.after) for change in found.changes] == [
        ("speaking", "listening"),
        ("listening", "idle"),
        ("idle", "speaking"),
    ]
    for change in found.changes:
        assert len(change.moved) == len(change.grey_levels) == 2
        assert change.grey_levels[0] > 0  # in its own block
        assert change.moved == (0, 0)  # the same landmarks all the time
        assert change.first_seen is None


def test_landmarks_that_move_are_seen_in_their_block():
    calls = 0

    def find(image):
        nonlocal calls
        number = calls % (2 * 2 * found_block)
        calls += 1
        second_stream, frame = divmod(number, 2 * found_block)
        moved = 0.05 if second_stream and frame >= found_block else 0.0
        return face_landmarks() + np.float32([moved * FACE_PX, 0, 0])

    found_block = tiniest_model().preset.sampling.block_latents * 4
    found = evaluate_states(tiniest_model(), material(), CONFIG, find)
    assert [change.first_seen for change in found.changes] == [1, 1, 1]
    assert found.changes[0].moved == pytest.approx((0, 0.05), abs=1e-4)
