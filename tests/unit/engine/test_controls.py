from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vivavoz.engine.control_file import read_control_track
from vivavoz.engine.controls import ControlTrack, StreamControls
from vivavoz.errors import ConfigError
from vivavoz.generator.config import tiny_generator_config

CPU = torch.device("cpu")


def test_nothing_wished_is_left_to_the_model() -> None:
    controls = StreamControls().to_latents(0, 2, CPU)
    assert controls.present is not None
    assert controls.present.tolist() == [[[False] * 4] * 2]


def test_wishes_hold_for_every_latent() -> None:
    wish = StreamControls(state="listening", expression="angry", gaze_rad=(0.1, -0.2), head_pose_rad=(1.0, 2.0, 3.0))
    controls = wish.to_latents(7, 2, CPU)
    assert controls.state.tolist() == [[1, 1]]
    assert controls.expression.tolist() == [[3, 3]]
    assert controls.expression_intensity.tolist() == [[1.0, 1.0]]
    assert torch.allclose(controls.gaze, torch.tensor([[[0.1, -0.2]] * 2]))
    assert controls.head_pose.tolist() == [[[1.0, 2.0, 3.0]] * 2]
    assert controls.present.all()
    assert StreamControls(gaze_rad=(0.1, 0.0)).to_latents(0, 1, CPU).present.tolist() == [[[False, False, True, False]]]


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        ({"state": "asleep"}, "state is 'asleep'"),
        ({"expression": "smug"}, "expression is 'smug', expected one of neutral, happy"),
        ({"expression_intensity": 1.5}, "expression_intensity is 1.5"),
        ({"gaze_rad": (0.1,)}, "expected 2 angles"),
        ({"head_pose_rad": (0.1, float("inf"), 0.0)}, "expected 3 angles"),
    ],
)
def test_wishes_that_cannot_be_are_refused(wish: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        StreamControls(**wish)


def test_a_generator_may_not_be_able_to_follow() -> None:
    config = tiny_generator_config()
    StreamControls(expression="disgusted").check(config)
    with pytest.raises(ConfigError, match="this preset has none"):
        StreamControls().check(replace(config, controls=False))
    with pytest.raises(ConfigError, match="this preset has none"):
        track([0.0], [StreamControls()]).check(replace(config, controls=False))


def track(times_s: list[float], wishes: list[StreamControls]) -> ControlTrack:
    return ControlTrack(times_s=tuple(times_s), wishes=tuple(wishes))


def test_a_track_holds_and_glides() -> None:
    one = StreamControls(state="listening", expression="happy", expression_intensity=0.2, gaze_rad=(0.0, 0.4))
    two = StreamControls(state="speaking", expression="happy", expression_intensity=1.0, gaze_rad=(1.0, 0.0))
    three = StreamControls(expression="sad", expression_intensity=0.0)
    whole = track([1.0, 2.0, 4.0], [one, two, three])
    assert whole.at(0.99) == StreamControls()
    assert whole.at(1.0) == one
    between = whole.at(1.25)
    assert (between.state, between.expression) == ("listening", "happy")
    assert between.expression_intensity == pytest.approx(0.4)
    assert between.gaze_rad == pytest.approx((0.25, 0.3))
    assert whole.at(3.0) == two  # what comes next looks nowhere, and feels something else: nothing glides
    assert whole.at(99.0) == three


def test_latents_are_asked_in_the_middle_of_their_pictures() -> None:
    # Picture 0; pictures 1 to 4; 5 to 8; 9 to 12: their middles lie at 0.02, 0.12, 0.28 and 0.44 s.
    ramp = track([0.0, 1.0], [StreamControls(gaze_rad=(0.0, 0.0)), StreamControls(gaze_rad=(1.0, 0.0))])
    yaw = ramp.to_latents(0, 4, CPU).gaze[0, :, 0]
    torch.testing.assert_close(yaw, torch.tensor([0.02, 0.12, 0.28, 0.44]))
    torch.testing.assert_close(ramp.to_latents(2, 2, CPU).gaze[0, :, 0], yaw[2:])


@pytest.mark.parametrize(
    ("times_s", "complaint"),
    [([], "one at least"), ([1.0], "got 1 times and 2"), ([1.0, 1.0], "do not rise"), ([2.0, 1.0], "rise")],
)
def test_a_track_must_rise(times_s: list[float], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        track(times_s, [StreamControls()] * 2 if times_s else [])


def test_json_and_csv_say_the_same(tmp_path: Path) -> None:
    rows = [
        {"time_s": 0, "state": "listening"},
        {"time_s": 1.5, "expression": "happy", "expression_intensity": 0.7, "gaze_rad": [0.2, 0.0]},
        {"time_s": 3, "head_pose_rad": [0.1, 0.0, -0.05]},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.csv").write_text(
        "time_s,state,expression,expression_intensity,gaze_yaw,yaw,roll\n0,listening,,,,,\n1.5,,happy,0.7,0.2,,\n3,,,,,0.1,-0.05\n"
    )
    expected = track(
        [0.0, 1.5, 3.0],
        [
            StreamControls(state="listening"),
            StreamControls(expression="happy", expression_intensity=0.7, gaze_rad=(0.2, 0.0)),
            StreamControls(head_pose_rad=(0.1, 0.0, -0.05)),
        ],
    )
    assert read_control_track(tmp_path / "a.json") == expected
    assert read_control_track(tmp_path / "a.csv") == expected


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.json", "nonsense", "not JSON"),
        ("a.json", '{"time_s": 0}', "not a list"),
        ("a.json", "[]", "holds no controls"),
        ("a.json", "[3]", "row 1 of .* has no time_s"),
        ("a.json", '[{"state": "idle"}]', "row 1 of .* has no time_s"),
        ("a.json", '[{"time_s": "soon"}]', "not a number"),
        ("a.json", '[{"time_s": 0}, {"time_s": 1, "mood": "happy"}]', "unknown key 'mood' in row 2"),
        ("a.json", '[{"time_s": 0, "state": "asleep"}]', "'asleep', expected one of speaking"),
        ("a.json", '[{"time_s": 1}, {"time_s": 0}]', "do not rise"),
        ("a.csv", "time_s,mood\n0,happy\n", "unknown column 'mood'"),
        ("a.csv", "time_s,yaw\n0,left\n", "row 1 of .*left"),
        ("a.csv", "", "holds no controls"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_one_line(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_control_track(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the controls"):
        read_control_track(tmp_path / "none.json")
