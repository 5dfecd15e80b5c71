import numpy as np
import pytest

from tests.unit.evaluate.material import drawn_portrait, material, tiniest_model
from tests.unit.rig.test_rig import face_landmarks
from vivavoz.data.gaze import gaze_angles
from vivavoz.evaluate.steering import (
    CONTROLS,
    SteeringConfig,
    as_wishes,
    command,
    commanded_motion,
    evaluate_steering,
    measure_angles,
    obey,
)
from vivavoz.rig.labels import in_units


def test_controls_are_commanded_one_after_another():
    commands = command(7)
    assert commands.shape == (4 * 175, 4)
    for i in range(len(CONTROLS)):
        own = commands[i * 175 : (i + 1) * 175]
        assert not np.delete(own, i, axis=1).any()
        assert own[:, i].max() == pytest.approx(-own[:, i].min(), rel=1e-3)
        assert own[-1, i] == 0
    wish = as_wishes(commands).at(25.5 / 25)
    assert wish.head_pose_rad == pytest.approx((commands[25, 0], 0, 0))
    assert as_wishes(commands).at((350 + 20.5) / 25).gaze_rad == pytest.approx((commands[370, 2], 0))


def test_angles_are_found_in_landmarks():
    found = measure_angles(np.stack([face_landmarks(yaw=6), face_landmarks(pitch=-4)]))
    assert np.degrees(found[0, 0] - found[1, 0]) == pytest.approx(6, abs=0.01)
    assert np.degrees(found[1, 1] - found[0, 1]) == pytest.approx(-4, abs=0.01)
    looking = face_landmarks()
    looking[468:, 0] += 3.0  # both irises to the right
    assert measure_angles(looking[None])[0, 2] > measure_angles(face_landmarks()[None])[0, 2] + 0.1


def test_obedience_of_known_tracks():
    commands = command(4)
    half = 0.5 * commands + 0.1
    late = np.roll(commands, 3, axis=0)
    for row in obey(commands, [half]):
        assert row.r == row.lowest_r == pytest.approx(1)
        assert row.gain == pytest.approx(0.5)
        assert row.lag_frames == 0
    assert all(row.lag_frames == 3 and row.r < 1 for row in obey(commands, [late]))
    against = obey(commands, [half, -commands])[0]
    assert against.r == pytest.approx(0)
    assert against.lowest_r == pytest.approx(-1)


def test_the_animator_does_as_it_is_told():
    commands = command(4)
    labels = drawn_portrait().rig().labels(commanded_motion(drawn_portrait().rig(), commands))
    for i, name in enumerate(("yaw", "pitch")):
        assert np.radians(in_units(labels, name)) == pytest.approx(commands[:, i], abs=2e-3)
    gaze = gaze_angles(np.stack([in_units(labels, name) for name in ("gaze_x", "gaze_y")], 1))
    told = slice(200, 300)  # gaze to the sides
    assert np.corrcoef(gaze[told, 0], commands[told, 2])[0, 1] > 0.98
    assert np.polyfit(commands[told, 2], gaze[told, 0], 1)[0] == pytest.approx(1, abs=0.3)


def test_a_model_is_commanded_and_measured():
    config = SteeringConfig(num_portraits=1, seconds=1, ruler=True, size=None)
    angles = iter(np.degrees(command(1)[:, 0]))
    find = lambda image: face_landmarks(yaw=next(angles, 0.0))  # noqa: E731
    found = evaluate_steering(tiniest_model(), material(), config, find)
    assert found.model[0].r == pytest.approx(1, abs=1e-3)
    assert found.model[0].gain == pytest.approx(1, abs=0.01)
    assert [row.control for row in found.ruler] == list(CONTROLS)
