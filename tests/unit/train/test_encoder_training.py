import itertools
from dataclasses import replace

import pytest
import torch

from tests.unit.train.material import clip_config, portraits, small_preset
from vivavoz.errors import ConfigError
from vivavoz.presets import tiny
from vivavoz.train.clips import AnimatedClips, pictures
from vivavoz.train.encoder_training import HELD_EVERY_STEPS, EncoderObjective, EncoderSamples, EncoderTraining, collect_samples
from vivavoz.train.loop import LoopConfig, Step, train
from vivavoz.vae.face_map import NUM_PLACES
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
    places = torch.randn(count, NUM_PLACES, 32, 32, generator=rng)
    return EncoderSamples(features.half(), places.half(), targets)


def test_features_are_what_the_encoder_sees_and_targets_what_it_shall_write():
    people = portraits()
    data = AnimatedClips(people, clip_config(num_frames=5, reference_odds=(1.0,)))
    model = vae()
    found = collect_samples(model, data.batches()(0), 2)
    assert found.coarse.shape == (20, small_preset().vae.feature_channels, 4, 4)  # 2 batches of 2 clips of 5 frames
    assert found.places.shape == (20, NUM_PLACES, 32, 32)
    assert found.codes.shape == (20, 3)
    last = data[1]
    with torch.no_grad():
        codes = model.encoder(pictures(last.frames).transpose(1, 2)).mean  # B K T h w
        again = model.encoder.encode_features(found.coarse[10:].float(), found.places[10:].float()).mean
    torch.testing.assert_close(again.flatten(1), codes.transpose(1, 2).flatten(0, 1).flatten(1), atol=0.02, rtol=0.02)
    torch.testing.assert_close(found.codes[10:], last.labels.flatten(0, 1)[:, :3])


def test_a_vae_without_frame_codes_is_refused():
    plain = VAE(tiny().vae)
    with pytest.raises(ConfigError, match="frame_codes"):
        collect_samples(plain, [], 0)


def objective(encoder, **changes):
    settings = EncoderTraining(loop=LoopConfig(num_steps=50, learning_rate=5e-3, warmup_steps=5), batch_size=12)
    return EncoderObjective(encoder, samples(), replace(settings, **changes))


def test_training_lowers_the_error_and_leaves_e1(tmp_path):
    model = vae()
    shaped = {name: weight.clone() for name, weight in model.state_dict().items() if ".e2." not in name}
    fitting = objective(model.encoder)
    before = float(fitting.held_loss())
    train(fitting, fitting.batches, fitting.settings.loop, tmp_path)
    assert float(fitting.held_loss()) < 0.8 * before
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in shaped.items())


def test_samples_that_are_held_back_are_measured_and_not_learnt_from():
    fitting = objective(vae().encoder, held_share=0.25)
    assert fitting.num_train == 18
    assert max(int(batch.max()) for batch in itertools.islice(fitting.batches(0), 30)) == 17
    batch = next(fitting.batches(0))
    steps = [Step(index, 0.5, torch.Generator()) for index in (HELD_EVERY_STEPS - 2, HELD_EVERY_STEPS - 1)]
    quiet, telling = (fitting(batch, step) for step in steps)
    assert set(telling) - set(quiet) == {"held_code"}
    assert not telling["held_code"].requires_grad
    assert float(telling["held_code"]) == pytest.approx(float(fitting.held_loss()))
