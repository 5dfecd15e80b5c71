import itertools

import numpy as np
import pytest
import torch

from tests.unit.train.material import hear as hear_phonemes
from tests.unit.train.material import portraits, small_preset
from tests.unit.train.test_generator_training import wishes
from vivavoz.audio.encoder import AudioEncoder
from vivavoz.audio.features import AudioFeatures
from vivavoz.data.corpus import Reader
from vivavoz.errors import ConfigError, DataError
from vivavoz.rig.labels import LABELS, in_units
from vivavoz.train.audio_training import AudioObjective, AudioTraining, Reading, at_speed, make_readings, spoilt
from vivavoz.train.checkpoint import load_part
from vivavoz.train.generator_training import Take, hear
from vivavoz.train.logs import read_log
from vivavoz.train.loop import LoopConfig, train


def encoder(seed=0):
    torch.manual_seed(seed)
    return AudioEncoder(small_preset().audio)


def readings(num_frames=40):
    """Lips, and one of two sounds, that follow the sound's loudness."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(3):
        loud = torch.from_numpy(np.repeat(rng.normal(size=num_frames // 5), 5).astype(np.float32))
        windows = loud[:, None, None].expand(-1, 16, 80).half()
        made.append(Reading(windows, loud[:, None].expand(-1, 7).clone(), (loud > 0).long()))
    return made


def reader():
    """Four seconds: a tone of 200 Hz, then nothing."""
    seconds = np.arange(64_000) / 16_000
    samples = (0.3 * np.sin(2 * np.pi * 200 * seconds) * (seconds < 2)).astype(np.float32)
    return Reader(name="a", samples=samples, phonemes=tuple(hear_phonemes(samples)))


def settings(**changes):
    loop = LoopConfig(num_steps=120, learning_rate=0.01, warmup_steps=1)
    return AudioTraining(**{"loop": loop, "batch_size": 8, "spoil": 0.3} | changes)


def test_training_lowers_the_losses(tmp_path):
    torch.manual_seed(0)
    trained = encoder()
    objective = AudioObjective(trained, readings(), settings())
    train(objective, objective.batches, objective.settings.loop, tmp_path)
    log = read_log(tmp_path)
    assert [line["step"] for line in log] == [20, 40, 60, 80, 100, 120]
    assert log[-1]["lips"] < 0.7 * log[0]["lips"]
    assert log[-1]["phonemes"] < 0.7 * log[0]["phonemes"]
    assert not trained.training
    saved = encoder(1)
    load_part(tmp_path, "encoder", saved)
    assert all(torch.equal(saved.state_dict()[name], weight) for name, weight in trained.state_dict().items())


def test_a_step_has_its_own_windows_wherever_a_run_begins():
    objective = AudioObjective(encoder(), readings(), settings())
    from_start = list(itertools.islice(objective.batches(0), 4))
    (third,) = itertools.islice(objective.batches(2), 1)
    assert torch.equal(third.windows, from_start[2].windows)
    assert torch.equal(third.lips, from_start[2].lips)
    assert torch.equal(third.phonemes, from_start[2].phonemes)
    assert not torch.equal(third.windows, from_start[3].windows)
    assert third.lips.shape == (8, 5 * 7)
    # What is asked for is of the window's own picture and of those beside it, in order.
    loud = third.windows[:, 0, 0]
    torch.testing.assert_close(third.lips.unflatten(1, (5, 7))[:, 2, 0], loud, atol=1e-2, rtol=1e-2)
    assert torch.equal(third.phonemes[:, 1], (loud > 0).long())


def test_a_faster_reader_says_the_same_sooner_and_higher():
    usual = reader()
    assert at_speed(usual, 1.0) is usual
    fast = at_speed(usual, 1.25)
    assert len(fast.samples) == len(usual.samples) / 1.25
    spectrum = np.abs(np.fft.rfft(fast.samples[:16_000]))
    assert np.argmax(spectrum) == 250
    assert [one.symbol for one in fast.phonemes] == ["AA", "M"]
    assert [one.start_s for one in fast.phonemes] == pytest.approx([0.0, 1.6])
    assert [one.end_s for one in fast.phonemes] == pytest.approx([1.6, 3.2])


def test_readings_tell_of_every_picture_its_lips_and_what_is_said_in_it():
    asked = settings(speeds=(1.0, 2.0))
    audio = AudioFeatures(small_preset().audio)
    slow, fast = make_readings([reader()], portraits().rig(0), audio, asked)
    for reading, num_frames in ((slow, 100), (fast, 50)):
        assert reading.windows.shape == (num_frames, 16, 80)
        assert reading.lips.shape == (num_frames, 7)
        assert reading.phonemes.shape == (num_frames,)
        vowel, nasal = reading.phonemes[0], reading.phonemes[-1]
        assert vowel != nasal
        assert torch.equal(reading.phonemes, torch.tensor([vowel] * (num_frames // 2) + [nasal] * (num_frames // 2)))
        opening = in_units(np.pad(reading.lips.numpy(), ((0, 0), (0, len(LABELS) - 7))), "opening")
        assert opening[num_frames // 4] > opening[3 * num_frames // 4] + 0.01
    unspoilt = audio.windows(torch.from_numpy(reader().samples)[None])[0]
    torch.testing.assert_close(slow.windows.float(), unspoilt, atol=5e-3, rtol=0)


def test_spoilt_windows_are_as_random_as_asked_for_and_no_more():
    windows = torch.linspace(-3, 2, 80).expand(64, 16, 80)

    def spoil(strength, seed=0):
        return spoilt(windows, strength, torch.Generator().manual_seed(seed))

    torch.testing.assert_close(spoil(0.0), windows)
    little, much = (float((spoil(strength) - windows).abs().mean()) for strength in (0.2, 1.0))
    assert 0.02 < little < 0.4 * much < 0.4
    assert torch.equal(spoil(1.0), spoil(1.0))
    assert not torch.equal(spoil(1.0), spoil(1.0, seed=1))
    assert float(spoil(1.0).abs().max()) <= 4
    apart = spoil(1.0).mean((1, 2))
    assert float(apart.std()) > 0.1, "each is spoilt in its own way"


def test_settings_and_readings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match=r"got speeds \(1.0, 9.0\)"):
        settings(speeds=(1.0, 9.0))
    with pytest.raises(DataError, match="none of 3 readings is longer than 4 pictures"):
        AudioObjective(encoder(), [Reading(one.windows[:4], one.lips[:4], one.phonemes[:4]) for one in readings()], settings())


def test_hearing_gives_every_picture_the_features_it_gets_at_inference():
    rng = np.random.default_rng(0)
    windows = torch.from_numpy(rng.normal(size=(40, 16, 80)).astype(np.float32))
    labels = rng.normal(size=(40, len(LABELS))).astype(np.float32)
    model = encoder().train()
    (heard,) = hear(model, [Take(windows, labels, labels[0], wishes(40))])
    assert heard.features.shape == (40, small_preset().audio.num_features)
    with torch.no_grad():
        torch.testing.assert_close(heard.features, model(windows[None])[0])
    assert not model.training
