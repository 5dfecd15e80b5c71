"""`vivavoz train vae`, `encode` and `train generator` from a corpus to weights that `vivavoz generate` can use."""

import json
import wave

import pytest

from tests.models import portrait, speech
from tests.unit.train.paper_material import write_corpus
from vivavoz.cli import main
from vivavoz.media.image import write_image
from vivavoz.media.video import read_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    write_corpus(folder / "shards")
    return folder


def complaint(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("vivavoz: error: ")
    return lines[-1]


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_from_a_corpus_to_a_video(folder, capsys):
    shards, vae, latents, out = (folder / name for name in ("shards", "vae", "latents", "generator"))
    assert run("train", "vae", "tiny", "--data", shards, "-o", vae, "--steps", 1) == 0
    told = capsys.readouterr()
    assert "the perceptual loss is" in told.err
    assert "vae 2/2, 17 frames at 64, step 1: l1" in told.err or "vae 1/2, 5 frames at 64, step 1: l1" in told.err
    assert told.out.startswith(f"{vae}/weights: ")
    assert run("encode", shards, "--weights", vae / "weights", "-o", latents) == 0
    assert "latents of 3 clips" in capsys.readouterr().out
    assert run("train", "generator", "tiny", "--data", latents, "-o", out, "--steps", 2, "--accumulate", 2) == 0
    assert json.loads((out / "recipe.json").read_text())["training"]["train_audio"] is True
    write_image(folder / "face.png", portrait())
    sound = folder / "speech.wav"
    write_wav(sound, speech(12_000))
    video = folder / "video.mp4"
    assert run("generate", folder / "face.png", sound, "-o", video, "--model", out / "weights", "--crop", "none") == 0
    assert len(list(read_video(video).frames())) == 19


def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def test_mistakes_are_one_line(folder, capsys):
    shards = folder / "shards"
    assert run("train", "vae", "tiny", "--data", folder / "nothing", "-o", folder / "x") == 2
    assert "cannot read" in complaint(capsys)
    assert run("train", "generator", "tiny", "--data", shards, "-o", folder / "x") == 2
    assert "vivavoz encode" in complaint(capsys)
    assert run("train", "vae", "tiny", "--data", shards, "-o", folder / "x", "--steps", 0) == 2
    assert "got 0 steps" in complaint(capsys)
    assert run("train", "vae", "tiny", "--data", shards, "-o", folder / "x", "--parallel", "ddp") == 2
    assert "torchrun" in complaint(capsys)
    assert run("encode", shards, "--weights", folder / "nothing", "-o", folder / "x") == 2
    assert "unknown model" in complaint(capsys)
