"""`vivavoz train student` from a trained model to one that `vivavoz generate` samples in two steps."""

import json

import pytest

from tests.e2e.test_paper_training import write_wav
from tests.models import lively_model, portrait, speech
from tests.unit.train.material import write_material
from tests.unit.train.paper_material import write_corpus
from tests.unit.train.test_student import label_recipe
from vivavoz.cli import main
from vivavoz.data.latents.encoding import encode_corpus
from vivavoz.engine.weights import save_model
from vivavoz.media.image import write_image
from vivavoz.media.video import read_video
from vivavoz.presets import tiny
from vivavoz.train import student_recipes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    save_model(lively_model(tiny()), folder / "teacher")
    save_model(lively_model(tiny(warp=True)), folder / "labels")
    encode_corpus(write_corpus(folder / "shards"), str(folder / "teacher"), str(folder / "latents"), device="cpu")
    write_material(folder / "portraits", folder / "speech", folder / "lite" / "corpus")
    return folder


def complaint(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("vivavoz: error: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def run(*arguments):
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        return exit_.code


def test_from_a_teacher_to_a_video(folder, capsys):
    out = folder / "run"
    student = ("train", "student", "tiny", "--teacher", folder / "teacher", "--data", folder / "latents", "-o", out, "--steps", 3)
    assert run(*student) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{out}/weights: a student of 2 steps")
    sampling = json.loads((out / "weights" / "config.json").read_text())["sampling"]
    assert (sampling["num_steps"], sampling["guidance_audio"], sampling["guidance_reference"]) == (2, 1.0, 1.0)
    write_image(folder / "face.png", portrait())
    write_wav(folder / "speech.wav", speech(12_000))
    video = folder / "video.mp4"
    assert (
        run("generate", folder / "face.png", folder / "speech.wav", "-o", video, "--model", out / "weights", "--crop", "none")
        == 0
    )
    assert len(list(read_video(video).frames())) == 19


def test_the_embedded_models_student_learns_from_portraits_and_speech(folder, monkeypatch, capsys):
    monkeypatch.setattr(student_recipes, "lite_student_recipe", lambda minutes: label_recipe())
    lite = ("train", "student", "lite", "--teacher", folder / "labels", "--portraits", folder / "portraits")
    assert run(*lite, "--speech", folder / "speech", "-o", folder / "lite") == 0
    assert capsys.readouterr().out.startswith(f"{folder}/lite/weights: a student of 2 steps")


@pytest.mark.parametrize(
    ("recipe", "options", "expected"),
    [
        ("tiny", ["--teacher", "nobody"], "unknown model 'nobody'"),
        ("tiny", ["--teacher", "{folder}/shards"], "config.json"),
        ("tiny", ["--data", "{folder}/shards"], "vivavoz encode"),
        ("tiny", ["--teacher", "{folder}/labels"], "was encoded by"),
        ("tiny", ["--steps", "0"], "got 0 steps"),
        ("tiny", ["--accumulate", "3"], "cannot be divided"),
        ("lite", ["--minutes", "0"], "positive"),
        ("lite", ["--threads", "0"], "at least 1"),
        ("lite", ["--portraits", "{folder}/nothing"], "nothing"),
        ("huge", [], "huge"),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, capsys, recipe, options, expected):
    usual = {"tiny": ["--data", folder / "latents"], "lite": ["--portraits", folder / "portraits", "--speech", folder / "speech"]}
    given = [option.format(folder=folder) for option in options]
    command = [
        "train",
        "student",
        recipe,
        "--teacher",
        folder / "teacher",
        "-o",
        tmp_path / "run",
        *usual.get(recipe, []),
        *given,
    ]
    assert run(*command) == 2
    assert expected in complaint(capsys)
