from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vivavoz.engine.controls import StreamControls
from vivavoz.errors import ConfigError
from vivavoz.generator.config import tiny_generator_config

CPU = torch.device("cpu")


def test_nothing_wished_is_left_to_the_model() -> None:
    controls = StreamControls().to_latents(2, CPU)
    assert controls.state is None
    assert controls.expression is None
    assert controls.gaze is None
    assert controls.head_pose is None


def test_wishes_hold_for_every_latent() -> None:
    controls = StreamControls(state="listening", expression=3, gaze_rad=(0.1, -0.2), head_pose_rad=(1.0, 2.0, 3.0)).to_latents(
        2, CPU
    )
    assert controls.state.tolist() == [[1, 1]]
    assert controls.expression.tolist() == [[3, 3]]
    assert controls.expression_intensity.tolist() == [[1.0, 1.0]]
    assert torch.allclose(controls.gaze, torch.tensor([[[0.1, -0.2]] * 2]))
    assert controls.head_pose.tolist() == [[[1.0, 2.0, 3.0]] * 2]


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        ({"state": "asleep"}, "state is 'asleep'"),
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
    StreamControls(expression=6).check(config)
    with pytest.raises(ConfigError, match="expression is 7, expected a class from 0 to 6"):
        StreamControls(expression=7).check(config)
    with pytest.raises(ConfigError, match="this preset has none"):
        StreamControls().check(replace(config, controls=False))
