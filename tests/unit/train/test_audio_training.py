import numpy as np
import pytest
import torch

from tests.unit.train.clock import Stopped, tick
from tests.unit.train.material import small_preset
from vivavoz.audio.encoder import AudioEncoder
from vivavoz.data.rig_labels import LABELS
from vivavoz.train import audio_training
from vivavoz.train.audio_training import AudioTraining, train_audio_encoder
from vivavoz.train.checkpoint import read_progress, read_weights
from vivavoz.train.generator_training import Take, hear


def encoder(seed=0):
    torch.manual_seed(seed)
    return AudioEncoder(small_preset().audio)


def takes():
    """Lips that follow the sound's loudness."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(3):
        loud = np.repeat(rng.normal(size=8), 5).astype(np.float32)
        windows = torch.from_numpy(np.broadcast_to(loud[:, None, None], (40, 16, 80)).copy())
        labels = np.broadcast_to(loud[None, :, None], (1, 40, len(LABELS))).astype(np.float32)
        made.append(Take(windows, labels, labels[:, 0]))
    return made


def test_training_lowers_the_loss(tmp_path, monkeypatch):
    tick(monkeypatch, audio_training)
    lines = []
    torch.manual_seed(0)
    settings = AudioTraining(budget_s=120, batch_size=8, learning_rate=0.01)
    train_audio_encoder(encoder(), takes(), settings, tmp_path, report=lines.append)
    assert [line["step"] for line in lines] == [20, 40, 60, 80, 100, 120]
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]


def test_a_stopped_run_goes_on_to_the_same_number_of_steps(tmp_path, monkeypatch):
    settings = AudioTraining(budget_s=4, batch_size=8, save_every_s=1)
    tick(monkeypatch, audio_training, stop_after=3)
    with pytest.raises(Stopped):
        train_audio_encoder(encoder(), takes(), settings, tmp_path)
    assert 0 < read_progress(tmp_path / "audio.pt").step <= 3
    tick(monkeypatch, audio_training)
    trained = encoder(1)
    train_audio_encoder(trained, takes(), settings, tmp_path)
    assert read_progress(tmp_path / "audio.pt").step == 4
    assert not trained.training
    saved = read_weights(tmp_path / "audio.pt", "audio")
    assert all(torch.equal(saved[name], weight) for name, weight in trained.state_dict().items())


def test_hearing_gives_every_picture_the_features_it_gets_at_inference():
    model, (first, *_) = encoder().train(), takes()
    (heard,) = hear(model, [first])
    assert heard.features.shape == (40, small_preset().audio.num_features)
    with torch.no_grad():
        torch.testing.assert_close(heard.features, model(first.windows[None])[0])
    assert not model.training
