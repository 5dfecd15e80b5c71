"""`vivavoz train lite` from two folders to weights that `vivavoz generate` can use. MediaPipe's part is prepared beforehand."""

import importlib.util

import pytest

from tests.unit.train.material import small_recipe, write_material
from vivavoz.cli import main
from vivavoz.media.video import read_video
from vivavoz.train import lite, recipes


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    write_material(folder / "portraits", folder / "speech", folder / "run" / "corpus")
    return folder


def train(folder, *options):
    return main(
        ["train", "lite", "--portraits", f"{folder}/portraits", "--speech", f"{folder}/speech", "-o", f"{folder}/run", *options]
    )


def complaint(capsys):
    """The error's one line."""
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("vivavoz: error: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def test_from_two_folders_to_a_video(material, monkeypatch, capsys):
    monkeypatch.setattr(recipes, "lite_recipe", lambda minutes: small_recipe())
    assert train(material) == 0
    weights = material / "run" / "weights"
    printed = capsys.readouterr()
    assert printed.out.startswith(str(weights))
    assert "vivavoz: face-map, step 1: place" in printed.err
    assert {path.name for path in weights.iterdir()} == {"config.json", "vae.safetensors", "generator.safetensors"}
    video = material / "video.mp4"
    portrait, speech = material / "portraits" / "a.png", material / "speech" / "0.wav"
    assert main(["generate", str(portrait), str(speech), "-o", str(video), "--model", str(weights)]) == 0
    assert len(list(read_video(video).frames())) == 104  # 66,000 samples at 16 kHz


def test_progress_tells_step_losses_and_time_left(material, monkeypatch, capsys):
    from vivavoz.cli.training_progress import showing_training

    monkeypatch.setenv("TERM", "dumb")
    with showing_training() as report:
        news = lite.Trained(phase="VAE 1/3", step=40, losses={"l1": 1.25, "flow": 0.5}, spent_s=600, budget_s=7200)
        report(news)
        report(news)
    assert capsys.readouterr().err == "vivavoz: VAE 1/3, step 40: l1 1.25, flow 0.5; 110 minutes left\n"


def test_missing_folders_are_named_before_anything_is_written(tmp_path, material, capsys):
    assert train(tmp_path) == 2
    assert "portraits is not a folder" in complaint(capsys)
    assert not (tmp_path / "run").exists()
    folders = ("--portraits", f"{material}/portraits", "--speech", f"{material}/speech", "-o", f"{tmp_path}/run")
    assert main(["train", "lite", *folders, "--clips", f"{tmp_path}/clips"]) == 2
    assert f"{tmp_path}/clips" in complaint(capsys)
    assert not (tmp_path / "run").exists()


def test_interrupted_training_says_how_to_go_on(material, monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(lite, "train_lite", stop)
    assert train(material) == 130
    assert "the same command goes on where it was" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("mediapipe") is not None, reason="MediaPipe is installed")
def test_no_mediapipe_says_what_to_install(material, tmp_path, capsys):
    (tmp_path / "portraits").symlink_to(material / "portraits")
    (tmp_path / "speech").symlink_to(material / "speech")
    assert train(tmp_path) == 2
    assert "pip install" in complaint(capsys)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--minutes", "0"], "positive"),
        (["--minutes", "soon"], "--minutes"),
        (["--threads", "0"], "at least 1"),
    ],
)
def test_bad_options_are_one_line(material, capsys, options, expected):
    try:
        status = train(material, *options)
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    assert expected in complaint(capsys)
