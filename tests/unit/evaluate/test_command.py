import json

import pytest

from tests.models import tiny_model
from tests.unit.evaluate.material import material
from vivavoz.cli import main
from vivavoz.engine.weights import load, save_model
from vivavoz.errors import WeightsError
from vivavoz.evaluate import evaluation, loading
from vivavoz.evaluate.evaluation import EvaluationConfig
from vivavoz.presets import tiny


@pytest.fixture
def told(monkeypatch):
    """The command's calls for material and what it measures, answered with what is small."""
    calls = {}

    def load_material(*arguments, **options):
        calls.update(options, arguments=arguments)
        return material()

    def measure(contenders, exam, folder, *, progress, on_part):
        calls.update(contenders=contenders, exam=exam)
        found = [evaluation.Findings(**BARE, name=one.name, sampling=one.model.preset.sampling) for one in contenders]
        on_part(found)
        progress("measured")
        return found

    monkeypatch.setattr(loading, "load_material", load_material)
    monkeypatch.setattr(evaluation, "evaluate", measure)
    return calls


BARE = {"preset": "tiny", "generator_gflop_per_frame": 0.5, "num_parameters": 7}


@pytest.fixture
def weights(tmp_path):
    save_model(tiny_model(), tmp_path / "mine")
    return str(tmp_path / "mine")


def command(tmp_path, *more):
    folders = ["--portraits", "faces", "--speech", "voices", "-o", str(tmp_path / "report")]
    return ["evaluate", "tiny", *folders, *more]


def test_command_writes_a_report(told, weights, tmp_path, capsys):
    assert main(command(tmp_path, "--weights", weights, "--quick", "--no-landmarks", "--no-labels")) == 0
    assert told["held_only"]
    assert told["arguments"][2] == tmp_path / "report" / "corpus"
    config: EvaluationConfig = told["exam"].config
    assert not config.landmarks
    assert not config.lips.label_latents
    assert config.reconstruction.size == 64
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [one["name"] for one in found["weights"]] == ["mine"]
    printed = capsys.readouterr()
    assert printed.out == (tmp_path / "report" / "report.md").read_text()
    assert "vivavoz: measured" in printed.err


def test_others_stand_beside_each_with_a_name(told, weights, tmp_path):
    more = ["--weights", weights, "--against", weights, "--steps", "1", "--guidance-audio", "1.5", "--all"]
    assert main(command(tmp_path, *more)) == 0
    few, own, other = told["contenders"]
    assert (few.name, own.name, other.name) == ("mine-1-steps", "mine", "mine-2")
    assert (few.model.preset.sampling.num_steps, few.model.preset.sampling.guidance_audio) == (1, 1.5)
    assert own.model.preset.sampling == other.model.preset.sampling == tiny().sampling
    assert few.model.generator is own.model.generator
    assert not told["held_only"]


def test_weights_of_another_preset_are_refused(told, weights, tmp_path, capsys):
    assert main(["evaluate", "lite", "--weights", weights, *command(tmp_path)[2:]]) == 2
    assert "'tiny' preset" in capsys.readouterr().err


def test_older_weights_that_do_not_load_are_one_line(told, weights, tmp_path, capsys):
    config = tmp_path / "mine" / "config.json"
    config.write_text(config.read_text().replace('"latent_channels"', '"latent_widths"', 1))
    with pytest.raises(WeightsError):
        load(weights)
    assert main([*command(tmp_path), "--weights", weights]) == 2
    error = capsys.readouterr().err
    assert "latent_widths" in error
    assert error.count("\n") == 1
