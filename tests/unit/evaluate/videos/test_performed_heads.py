"""Heads that the animator moves to sound: what is measured of them, and that a judge learns from them."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.unit.evaluate.material import drawn_portrait
from vivavoz.cli.main import main
from vivavoz.data.corpus import Reader
from vivavoz.data.performance import perform_random
from vivavoz.data.phonemes import Phoneme
from vivavoz.data.video.measure import measure_heads
from vivavoz.evaluate.videos.capp import WINDOW_FRAMES, load_capp, pose_figures
from vivavoz.evaluate.videos.performed_heads import at_speed, head_track, perform_heads


def reader(seconds: float, seed: int = 0) -> Reader:
    """A hum that swells every now and then, as syllables do."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(16000 * seconds)) / 16000
    swell = sum(np.exp(-(((time_s - at) / 0.08) ** 2)) for at in np.cumsum(rng.uniform(0.2, 0.7, round(3 * seconds))))
    hum = sum(np.sin(2 * np.pi * 120 * k * time_s) / k for k in range(1, 12))
    samples = (0.05 * swell * hum + 1e-3 * rng.standard_normal(len(time_s))).astype(np.float32)
    return Reader(name=f"hum {seed}", samples=samples, phonemes=(Phoneme(symbol="AA", start_s=0.0, end_s=seconds),))


def test_heads_that_are_not_drawn_are_measured_as_drawn_ones_are():
    rig = drawn_portrait().rig()
    motion = perform_random(60, seed=3)
    drawn = pose_figures(measure_heads(np.stack([rig.landmarks(row) for row in motion])))
    made = head_track(motion, rig.head.rotation)
    for figure in range(drawn.shape[1]):
        assert np.corrcoef(drawn[:, figure], made[:, figure])[0, 1] > 0.97
        np.testing.assert_allclose(np.std(made[:, figure]), np.std(drawn[:, figure]), rtol=0.15)


def test_a_recording_played_slower_is_longer_and_lower():
    slow = at_speed(reader(4.0), Fraction(5, 6))
    assert len(slow.samples) == pytest.approx(4.8 * 16000, abs=2)
    spectrum = np.abs(np.fft.rfft(slow.samples[16000:32000]))
    assert np.argmax(spectrum[50:140]) + 50 == pytest.approx(100, abs=2)


def test_performances_share_a_sound_and_differ_in_what_it_leaves_open():
    clips = perform_heads([reader(2.5), reader(4.0)], num_each=2, seed=1, speeds=(Fraction(1), Fraction(4, 5)))
    assert [clip.num_frames for clip in clips] == [78, 78, 100, 100, 125, 125]  # 2.5 s are long enough only slowed down
    assert all(clip.num_frames >= WINDOW_FRAMES and clip.poses.shape[1] == 6 for clip in clips)
    assert clips[2].mel is clips[3].mel
    assert (clips[2].poses - clips[3].poses).abs().max() > 0.1
    again = perform_heads([reader(2.5), reader(4.0)], num_each=2, seed=1, speeds=(Fraction(1), Fraction(4, 5)))
    assert all(torch.equal(one.poses, other.poses) for one, other in zip(clips, again, strict=True))


def test_the_command_trains_on_recordings_alone_and_says_how_good_it_is(tmp_path, monkeypatch, capsys):
    heard = [reader(3.6, seed) for seed in range(14)]
    monkeypatch.setattr("vivavoz.data.corpus.prepare_speech", lambda folder, cache: heard)
    weights = tmp_path / "capp.safetensors"
    arguments = ["--speech", str(tmp_path), "--performances", "1", "--steps", "2", "--batch", "4", "-o", str(weights)]
    assert main(["evaluate", "train-capp", *arguments]) == 0
    assert "performed: on 2 clips held back" in capsys.readouterr().out
    assert load_capp(weights).feel(torch.zeros(1, WINDOW_FRAMES, 6)).shape == (1, 240)
    assert main(["evaluate", "train-capp", "-o", str(weights)]) == 2
    assert "got neither corpora nor recordings" in capsys.readouterr().err
    assert main(["evaluate", "train-capp", "-o", str(tmp_path / "capp.pt")]) == 2
