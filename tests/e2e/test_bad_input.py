"""Whatever is wrong with the input: one line, exit status 2, and no file."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models import lively_model, portrait, speech, tiniest
from vivavoz.cli import main
from vivavoz.engine.weights import save_model
from vivavoz.media.image import write_image
from vivavoz.media.video import VideoWriter
from vivavoz.presets import tiny


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_model(lively_model(tiniest()), folder)
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with one picture and one sound that are fine."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    write_image(folder / "wall.png", np.full((200, 200, 3), 120, np.uint8))
    write_float_wav(folder / "speech.wav", speech(8_000))
    return folder


def write_float_wav(path: Path, samples: np.ndarray, rate_hz: int = 16_000) -> None:
    data = samples.astype("<f4").tobytes()
    fmt = struct.pack("<HHIIHH", 3, 1, rate_hz, 4 * rate_hz, 4, 32)
    path.write_bytes(
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + fmt
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def write_silent_film(path: Path) -> None:
    with VideoWriter(path, (64, 64), audio_rate_hz=None) as writer:
        for _ in range(3):
            writer.write_frame(np.zeros((64, 64, 3), np.uint8))


BAD_PORTRAITS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("anna.png", lambda path: None, "no such picture"),
    "empty": ("anna.png", lambda path: path.touch(), "is an empty file"),
    "a folder": ("anna.png", lambda path: path.mkdir(), "is a directory"),
    "text": ("anna.jpg", lambda path: path.write_text("Dear Anna,"), "is not a picture"),
    "one pixel": ("anna.png", lambda path: path.write_bytes(png(1, 1)), "is 1x1 pixels"),
    "huge": ("anna.png", lambda path: path.write_bytes(png(60_000, 60_000)), "has more than 64 megapixels"),
    "cut short": ("anna.png", lambda path: path.write_bytes(png(100, 100)), "is damaged or cut short"),
    "no face": ("anna.png", lambda path: write_image(path, portrait(0, 320, 320)), "no face found"),
}

BAD_SPEECH: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("talk.wav", lambda path: None, "does not exist"),
    "empty": ("talk.wav", lambda path: path.touch(), "is empty"),
    "a folder": ("talk.wav", lambda path: path.mkdir(), "is a folder"),
    "text": ("talk.wav", lambda path: path.write_text("Good morning."), "cannot be read as sound"),
    "silent": ("talk.wav", lambda path: write_float_wav(path, np.zeros(16_000)), "is silent throughout"),
    "too short": ("talk.wav", lambda path: write_float_wav(path, speech(100)), "at least 10 ms are needed"),
    "not finite": ("talk.wav", lambda path: write_float_wav(path, np.append(speech(9_000), np.nan)), "not finite"),
    "without sound": ("film.mp4", write_silent_film, "has no sound in it"),
    "a picture": ("anna.png", lambda path: write_image(path, portrait()), "has no sound in it"),
}


def assert_one_line(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(arguments)
    except SystemExit as end:  # how argparse leaves
        status = end.code
    said = capsys.readouterr()
    assert status == 2
    assert said.out == ""
    assert said.err.startswith("vivavoz: error: ")
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    assert complaint in said.err


@pytest.mark.parametrize("name", BAD_PORTRAITS)
def test_bad_portraits(name: str, inputs: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, make, complaint = BAD_PORTRAITS[name]
    make(inputs / file)
    output = tmp_path / "out.mp4"
    arguments = ["generate", str(inputs / file), str(inputs / "speech.wav"), "-o", str(output), "--model", str(weights)]
    assert_one_line(arguments, complaint, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["inputs"]


@pytest.mark.parametrize("name", BAD_SPEECH)
def test_bad_speech(name: str, inputs: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, make, complaint = BAD_SPEECH[name]
    make(inputs / file)
    arguments = [
        "generate",
        str(inputs / "wall.png"),
        str(inputs / file),
        "-o",
        str(tmp_path / "out.mp4"),
        "--model",
        str(weights),
    ]
    assert_one_line([*arguments, "--crop", "none"], complaint, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["inputs"]


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ("nowhere/out.mp4", "there is no directory"),
        ("out.txt", "its suffix is '.txt'"),
        ("out", "its suffix is 'missing'"),
        ("inputs", "its suffix"),
        ("folder.mp4", "it is a directory"),
        pytest.param(
            "/proc/out.mp4", "cannot write /proc/out.mp4", marks=pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
        ),
    ],
)
def test_outputs_that_cannot_be_written(
    output: str, complaint: str, inputs: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    arguments = ["generate", str(inputs / "wall.png"), str(inputs / "speech.wav"), "-o", str(tmp_path / output)]
    assert_one_line([*arguments, "--model", str(weights), "--crop", "none"], complaint, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.mp4", "inputs"]


def truncated(weights: Path, folder: Path) -> None:
    copy(weights, folder)
    path = folder / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:1_000])


def of_another_preset(weights: Path, folder: Path) -> None:
    copy(weights, folder)
    (folder / "config.json").write_text(tiny(warp=True).to_json())


def copy(weights: Path, folder: Path) -> None:
    for path in weights.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("make", "complaint"),
    [(truncated, "is truncated"), (of_another_preset, "preset"), (lambda weights, folder: None, "has no config.json")],
)
def test_bad_weights(
    make: Callable[[Path, Path], None],
    complaint: str,
    inputs: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    make(weights, folder)
    arguments = ["generate", str(inputs / "wall.png"), str(inputs / "speech.wav"), "-o", str(tmp_path / "out.mp4")]
    assert_one_line([*arguments, "--model", str(folder)], complaint, capsys)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--model", "huge"], "unknown model 'huge'; expected a preset"),
        (["--model", "tiny"], "no weights of the 'tiny' preset are shipped"),
        (["--steps", "0"], "num_steps is 0"),
        (["--steps", "many"], "invalid int value: 'many'"),
        (["--guidance-audio", "nan"], "guidance_audio is nan"),
        (["--block", "3"], "invalid choice"),
        (["--size", "100"], "size is 100, expected a multiple of 64"),
        (["--seed", "-1"], "seed is -1"),
        (["--runtime", "fast"], "invalid choice: 'fast'"),
    ],
)
def test_bad_options(
    options: list[str], complaint: str, inputs: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", str(inputs / "wall.png"), str(inputs / "speech.wav"), "-o", str(tmp_path / "out.mp4")]
    assert_one_line([*arguments, "--model", str(weights), "--crop", "none", *options], complaint, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["inputs"]


def test_bad_numbers_of_portraits(inputs: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wall, sound, output = str(inputs / "wall.png"), str(inputs / "speech.wav"), str(tmp_path / "out.mp4")
    common = ["-o", output, "--model", str(weights), "--crop", "none"]
    assert_one_line(["generate", *[wall] * 4, sound, *common], "got 4 portraits, expected 1 to 3", capsys)
    assert_one_line(["generate", sound, *common], "expected one to three portraits and then a sound file", capsys)


def test_an_unknown_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert_one_line(["info", "huge"], "unknown preset 'huge'; expected one of paper, lite, tiny", capsys)


def test_the_installed_command_has_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vivavoz", "generate", "nobody.png", "nothing.wav", "-o", "out.mp4"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "vivavoz: error: nothing.wav does not exist; give a sound file or a video with sound\n"
    assert list(tmp_path.iterdir()) == []
