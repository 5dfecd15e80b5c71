import json

import pytest

from tests.models import tiny_model
from tests.unit.evaluate.material import material
from vivavoz.cli import main
from vivavoz.evaluate import loading


@pytest.fixture
def told(monkeypatch):
    """The command's calls for material and weights, answered with what is small."""
    calls = {}

    def load_material(*arguments, **options):
        calls.update(options, arguments=arguments)
        return material()

    monkeypatch.setattr(loading, "load_material", load_material)
    monkeypatch.setattr("vivavoz.engine.weights.load", lambda name: tiny_model())
    return calls


def command(tmp_path, *more):
    return ["evaluate", "tiny", "--portraits", "faces", "--speech", "voices", "-o", str(tmp_path / "report"), "--quick", *more]


def test_command_writes_a_report(told, tmp_path, capsys):
    assert main(command(tmp_path, "--no-video-lips")) == 0
    assert told["held_only"]
    assert told["arguments"][2] == tmp_path / "report" / "corpus"
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert len(found["pairs"]) == 3
    printed = capsys.readouterr()
    assert printed.out == (tmp_path / "report" / "report.md").read_text()
    assert "lips: 3/3 pairs" in printed.err


def test_weights_of_another_preset_are_refused(told, tmp_path, capsys):
    assert main(["evaluate", "lite", "--weights", "somewhere", *command(tmp_path)[2:]]) == 2
    assert "'tiny' preset" in capsys.readouterr().err
