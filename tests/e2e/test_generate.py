"""The command line from portrait and sound to a video file, on small random weights."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import skimage.data
import torch

import vivavoz
from tests.models import images, lively_model, play, portrait, posing_model, speech, tiniest, tiny_avatar
from vivavoz.audio.reading import read_audio
from vivavoz.cli import main, progress
from vivavoz.engine.generate import Progress, generate, render
from vivavoz.engine.weights import load, save_model
from vivavoz.media.image import write_image
from vivavoz.media.video import read_video


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `weights/`, `anna.png`, `bert.png` and `speech.wav` (1.003 s, 44.1 kHz stereo)."""
    folder = tmp_path_factory.mktemp("inputs")
    save_model(lively_model(tiniest()), folder / "weights", torch.float32)
    write_image(folder / "anna.png", portrait(0))
    write_image(folder / "bert.png", portrait(1))
    write_wav(folder / "speech.wav", np.stack([speech(44_232), speech(44_232, 1)], 1), 44_100)
    return folder


def write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate_hz, layout="stereo")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16).reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = rate_hz
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def run(inputs: Path, output: Path, *options: str, portraits: tuple[str, ...] = ("anna.png",)) -> int:
    files = [str(inputs / name) for name in (*portraits, "speech.wav")]
    return main(["generate", *files, "-o", str(output), "--model", str(inputs / "weights"), "--crop", "none", *options])


def pictures(path: Path) -> np.ndarray:
    return np.stack([image for _, image in read_video(path).frames()])


def test_wishes_change_the_video_and_a_file_says_the_same(inputs: Path, tmp_path: Path) -> None:
    assert run(inputs, tmp_path / "plain.mp4") == 0
    wishes = ("--state", "listening", "--expression", "happy:0.7", "--gaze=-0.2,0", "--pose", "0.1,0,0")
    assert run(inputs, tmp_path / "asked.mp4", *wishes) == 0
    row = {"time_s": -1, "state": "listening", "expression": "happy", "expression_intensity": 0.7}
    (tmp_path / "wishes.json").write_text(json.dumps([{**row, "gaze_rad": [-0.2, 0.0], "head_pose_rad": [0.1, 0.0, 0.0]}]))
    assert run(inputs, tmp_path / "file.mp4", "--controls", str(tmp_path / "wishes.json")) == 0
    plain, asked, file = (pictures(tmp_path / f"{name}.mp4") for name in ("plain", "asked", "file"))
    assert not np.array_equal(plain, asked)
    assert np.array_equal(asked, file)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--gaze", "left"), "--gaze has 'left', expected 2 numbers"),
        (("--pose", "1,2"), "--pose has '1,2', expected 3 numbers"),
        (("--expression", "smug"), "expression is 'smug'"),
        (("--expression", "happy:much"), "--expression has 'much', expected 1 number"),
        (("--state", "asleep"), "state is 'asleep'"),
        (("--state", "idle", "--controls", "a.json"), "--controls and --state"),
    ],
)
def test_wishes_that_cannot_be_are_told(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], complaint: str
) -> None:
    assert run(inputs, tmp_path / "a.mp4", *options) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "a.mp4").exists()


def coarse(video: np.ndarray) -> np.ndarray:
    """Grey levels of 8 x 8 tiles, `(T, 8, 8)`: what H.264 keeps even of noise."""
    luma = video @ np.array([0.2126, 0.7152, 0.0722])
    return luma.reshape(len(video), 8, 8, 8, 8).mean((2, 4))


def test_a_video_lasts_as_long_as_its_sound(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(inputs, tmp_path / "out.mp4", "--block", "1", portraits=("anna.png", "bert.png")) == 0
    video = read_video(tmp_path / "out.mp4")
    assert (video.width, video.height, video.frame_rate) == (64, 64, 25)
    times = [time for time, _ in video.frames()]
    assert len(times) == 26  # 1.003 s: a part of a picture counts
    assert times[-1] == 1
    sound = video.samples()
    assert len(sound) / video.audio_rate_hz == pytest.approx(26 / 25, abs=1 / 40)
    assert np.abs(sound).max() > 0.05
    said = capsys.readouterr()
    assert re.fullmatch(
        r"\S+/out\.mp4: 26 frames, 1\.04 s, [\d.]+ frames/s, real-time factor [\d.]+, first picture after \d+ ms\n", said.out
    )
    assert "error" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_file_made_with_overlap_is_the_same(inputs: Path, tmp_path: Path) -> None:
    assert run(inputs, tmp_path / "plain.mp4", "--block", "2") == 0
    assert run(inputs, tmp_path / "overlapped.mp4", "--block", "2", "--overlap") == 0
    assert (tmp_path / "plain.mp4").read_bytes() == (tmp_path / "overlapped.mp4").read_bytes()


def test_the_file_holds_what_the_stream_gives(inputs: Path, tmp_path: Path) -> None:
    assert run(inputs, tmp_path / "out.mp4", "--seed", "4", "--steps", "3", "--guidance-audio", "2") == 0
    avatar = load(inputs / "weights").avatar(inputs / "anna.png", crop="none")
    stream = avatar.stream(seed=4, num_steps=3, guidance_audio=2.0)
    expected = coarse(images(play(stream, read_audio(inputs / "speech.wav"), 333)))
    written = coarse(pictures(tmp_path / "out.mp4"))
    aligned, shifted = (np.abs(written - np.roll(expected, frames, axis=0)).mean() for frames in (0, 1))
    assert aligned < 4
    assert shifted > 1.3 * aligned


def test_the_seed_decides(inputs: Path, tmp_path: Path) -> None:
    for name, seed in (("one", "1"), ("again", "1"), ("other", "2")):
        assert run(inputs, tmp_path / f"{name}.mp4", "--seed", seed) == 0
    one, again, other = (pictures(tmp_path / f"{name}.mp4") for name in ("one", "again", "other"))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_another_size(inputs: Path, tmp_path: Path) -> None:
    assert run(inputs, tmp_path / "out.mkv", "--size", "128") == 0
    assert read_video(tmp_path / "out.mkv").width == 128


def test_from_python_with_progress(inputs: Path, tmp_path: Path) -> None:
    steps: list[Progress] = []
    summary = vivavoz.generate(
        [portrait(0)], inputs / "speech.wav", tmp_path / "out.mp4", model=inputs / "weights", crop="none", progress=steps.append
    )
    assert (summary.num_frames, summary.seconds) == (26, 1.04)
    assert summary.fps == pytest.approx(25 / summary.real_time_factor)
    assert 0 < summary.first_picture_latency_s < 26 / summary.fps
    assert [step.num_frames for step in steps] == sorted(step.num_frames for step in steps)
    assert {step.total_frames for step in steps} == {26}
    assert steps[-1].num_frames == 26


def test_an_error_on_the_way_leaves_nothing(inputs: Path, tmp_path: Path) -> None:
    def fail(step: Progress) -> None:
        assert list(tmp_path.iterdir()), "the file is written on the way"
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        render(tiny_avatar(), speech(20_000), tmp_path / "out.mp4", progress=fail)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_survives_an_error(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"precious")

    def fail(step: Progress) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        generate(portrait(), inputs / "speech.wav", tmp_path / "out.mp4", model=inputs / "weights", crop="none", progress=fail)
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"


def test_a_terminal_gets_a_bar(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    assert run(inputs, tmp_path / "out.mp4") == 0
    assert "26/26 frames" in capsys.readouterr().err


def test_other_outputs_get_plain_lines(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL_S", 0.0)
    assert run(inputs, tmp_path / "out.mp4") == 0
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"vivavoz: 26/26 frames, [\d.]+ frames/s, real-time factor [\d.]+", lines[-1])


def test_the_largest_of_several_faces_is_animated(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pytest.importorskip("skimage.data")
    person = data.astronaut()[:300, 80:380]
    write_image(tmp_path / "both.png", np.concatenate([person, person[:, ::-1]], 1))
    files = [str(tmp_path / "both.png"), str(inputs / "speech.wav"), "-o", str(tmp_path / "out.mp4")]
    assert main(["generate", *files, "--model", str(inputs / "weights")]) == 0
    assert "2 faces in" in capsys.readouterr().err


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from vivavoz.cli import main, progress
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt(step):
    assert list(Path(sys.argv[1]).iterdir()), "the file is written on the way"
    os.kill(os.getpid(), signal.SIGINT)

progress._plain_lines = lambda: interrupt
sys.exit(main(sys.argv[2:]))
"""


def test_a_lone_portrait_is_posed_unless_it_cannot_or_shall_not_be(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(posing_model(), tmp_path / "posing", torch.float32)
    write_image(tmp_path / "eve.png", skimage.data.astronaut())

    def video(name: str, *options: str) -> np.ndarray:
        files = [str(tmp_path / "eve.png"), str(inputs / "speech.wav")]
        assert main(["generate", *files, "-o", str(tmp_path / name), "--model", str(tmp_path / "posing"), *options]) == 0
        return pictures(tmp_path / name)

    assert not np.array_equal(video("posed.mp4"), video("as-is.mp4", "--as-is"))
    assert "shown as it is" not in capsys.readouterr().err
    write_image(tmp_path / "eve.png", portrait(0, 256, 256))
    video("nobody.mp4", "--crop", "none")
    assert "eve.png is shown as it is: no frontal face found whose mouth could be posed" in capsys.readouterr().err


def test_ctrl_c_says_so_and_leaves_nothing(inputs: Path, tmp_path: Path) -> None:
    files = [str(inputs / "anna.png"), str(inputs / "speech.wav"), "-o", str(tmp_path / "out.mp4")]
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path), "generate", *files]
    result = subprocess.run(
        [*command, "--model", str(inputs / "weights"), "--crop", "none"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "vivavoz: interrupted; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def test_info_as_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert "generator" in shown
    assert "runtime on this machine" in shown
    assert "cuda-graphs-fp8" in shown
    assert main(["info", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["preset"] == "tiny"
