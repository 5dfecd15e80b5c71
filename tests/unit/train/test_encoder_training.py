import itertools

import pytest
import torch

from tests.unit.train.clock import Stopped, tick
from tests.unit.train.material import clip_config, portraits, small_preset
from vivavoz.errors import ConfigError
from vivavoz.presets import tiny
from vivavoz.train import encoder_training
from vivavoz.train.checkpoint import read_progress
from vivavoz.train.clips import AnimatedClips, pictures
from vivavoz.train.encoder_training import EncoderTraining, collect_features, held_loss, train_encoder
from vivavoz.vae.vae import VAE


def vae(seed=0):
    torch.manual_seed(seed)
    return VAE(small_preset().vae)


def samples(count=24):
    """Features that hold the targets, spread over channels."""
    rng = torch.Generator().manual_seed(0)
    channels = small_preset().vae.feature_channels
    targets = torch.randn(count, 3, generator=rng)
    features = (targets @ torch.randn(3, channels, generator=rng))[..., None, None].expand(-1, -1, 4, 4)
    return features.half(), targets


def test_features_are_what_the_encoder_sees_and_targets_what_it_shall_write():
    people = portraits()
    data = AnimatedClips(people.images, people.landmarks, clip_config(num_frames=5, reference_odds=(1.0,)))
    model = vae()
    features, targets = collect_features(model, data, 2)
    assert features.shape == (20, small_preset().vae.feature_channels, 4, 4)  # 2 batches of 2 clips of 5 frames
    assert targets.shape == (20, 3)
    last = list(itertools.islice(data, 2))[1]
    with torch.no_grad():
        codes = model.encoder(pictures(last.frames).transpose(1, 2)).mean  # B K T h w
        again = model.encoder.encode_features(features[10:].float()).mean
    torch.testing.assert_close(again.flatten(1), codes.transpose(1, 2).flatten(0, 1).flatten(1), atol=0.02, rtol=0.02)
    torch.testing.assert_close(targets[10:], last.labels.flatten(0, 1)[:, :3])


def test_a_vae_without_frame_codes_is_refused():
    plain = VAE(tiny().vae)
    with pytest.raises(ConfigError, match="frame_codes"):
        collect_features(plain, [], 0)


def test_training_lowers_the_error_and_leaves_e1(tmp_path, monkeypatch):
    tick(monkeypatch, encoder_training)
    model, (features, targets), lines = vae(), samples(), []
    shaped = {name: weight.clone() for name, weight in model.state_dict().items() if ".e2." not in name}
    before = held_loss(model, features, targets)
    settings = EncoderTraining(budget_s=50, batch_size=12, learning_rate=5e-3)
    train_encoder(model, features, targets, settings, tmp_path, report=lines.append)
    assert held_loss(model, features, targets) < 0.8 * before
    assert [line["step"] for line in lines] == [50]
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in shaped.items())


def test_a_stopped_run_goes_on_to_the_same_number_of_steps(tmp_path, monkeypatch):
    features, targets = samples()
    settings = EncoderTraining(budget_s=4, batch_size=4, save_every_s=1)
    tick(monkeypatch, encoder_training, stop_after=3)
    with pytest.raises(Stopped):
        train_encoder(vae(), features, targets, settings, tmp_path)
    assert 0 < read_progress(tmp_path / "encoder.pt").step <= 3
    tick(monkeypatch, encoder_training)
    train_encoder(vae(1), features, targets, settings, tmp_path)
    assert read_progress(tmp_path / "encoder.pt").step == 4
