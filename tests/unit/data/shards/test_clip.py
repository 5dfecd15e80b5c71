import dataclasses

import numpy as np
import pytest

from tests.unit.data.shards.material import make_clip
from vivavoz.data.performance import State
from vivavoz.data.shards.clip import LABELS
from vivavoz.engine import controls
from vivavoz.engine.controls import EXPRESSIONS, STATES
from vivavoz.errors import DataError
from vivavoz.generator.config import GeneratorConfig


@pytest.fixture(scope="module")
def clip():
    return make_clip(num_frames=2)


def test_classes_are_those_of_the_generator_and_of_the_animator():
    assert controls.STATES == STATES
    assert [State[name.upper()] for name in STATES] == list(range(3))
    assert len(EXPRESSIONS) == GeneratorConfig.__dataclass_fields__["num_expressions"].default


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"key": "a.b"}, "letters, digits, _ and -"),
        ({"licence": ""}, "has no licence; say it"),
        ({"split": "dev"}, "expected one of train, validation, test"),
        ({"num_frames": 251}, "expected 1 to 250: cut it"),
        ({"crop_track_px": ((0.0, 0.0, 9.0),) * 3}, "has 3 crops, expected 0, 1 or 2"),
    ],
)
def test_infos_that_cannot_be_stored_are_refused(clip, changes, complaint):
    with pytest.raises(DataError, match=complaint):
        dataclasses.replace(clip.info, **changes)


def test_arrays_of_another_shape_or_type_are_refused(clip):
    wrong = {
        "frames": clip.frames[:1],
        "samples": clip.samples.astype(np.float64),
        "landmarks": clip.landmarks * np.float32(np.nan),
        "labels": {"state": np.full(2, 3, np.uint8)},
    }
    for name, values in wrong.items():
        with pytest.raises(DataError, match=f"{name}|state 3"):
            dataclasses.replace(clip, **{name: values})
    with pytest.raises(DataError, match="a label 'mood'; expected only state"):
        dataclasses.replace(clip, labels={"mood": clip.labels["state"]})
    assert set(dataclasses.replace(clip, labels={}).labels) < set(LABELS)
