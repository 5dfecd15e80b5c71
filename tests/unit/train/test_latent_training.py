from dataclasses import replace

import pytest
import torch

from tests.models import lively_model, tiniest
from tests.unit.data.shards.material import make_clip
from vivavoz.data.latents.controls import control_rows, to_controls
from vivavoz.data.latents.reading import LatentBatch
from vivavoz.train.latent_training import LatentObjective, LatentTraining
from vivavoz.train.logs import read_log
from vivavoz.train.loop import LoopConfig, Step, train


def batch(starts_video=False, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return LatentBatch(
        latents=torch.randn(2, 8, 8, 1, 1, generator=rng),
        references=torch.randn(2, 8, 3, 1, 1, generator=rng),
        mel_windows=torch.randn(2, 29 if starts_video else 32, 16, 80, generator=rng),
        controls=to_controls([control_rows(make_clip(num_frames=29).labels, 8)] * 2),
        starts_video=starts_video,
        keys=("a", "b"),
        first_latents=(0, 0) if starts_video else (3, 5),
    )


def objective(**settings):
    model = lively_model(tiniest())
    return LatentObjective(model.generator, model.audio.encoder, LatentTraining(**settings))


def loss(model, windows, index=0):
    return model(windows, Step(index, 0.0, torch.Generator().manual_seed(index)))["velocity"]


def test_windows_that_start_a_video_learn_its_mask():
    for starts_video in (True, False):
        model = objective()
        loss(model, batch(starts_video)).backward()
        generator = model.generator
        assert bool(generator.first_latent_mask.grad.any()) == starts_video
        assert bool(generator.audio.first[0].weight.grad.any()) == starts_video


@pytest.mark.parametrize("dropped", [True, False])
def test_what_is_dropped_has_no_say(dropped):
    model = objective(drop_odds=1.0 if dropped else 0.0).eval()
    plain = loss(model, batch())
    other_sound = loss(model, replace(batch(), mel_windows=batch(seed=1).mel_windows))
    other_person = loss(model, replace(batch(), references=batch(seed=1).references))
    assert torch.equal(plain, other_sound) == dropped
    assert torch.equal(plain, other_person) == dropped


def test_wishes_have_a_say_where_they_are_asked():
    def other_state(windows):
        return replace(windows, controls=replace(windows.controls, state=(windows.controls.state + 1) % 3))

    def unknown(windows):
        return replace(windows, controls=replace(windows.controls, present=torch.zeros_like(windows.controls.present)))

    asking, free = (objective(drop_odds=0.0, free_odds=odds).eval() for odds in (0.0, 1.0))
    said = 0
    for index in range(6):  # each wish is left out in three of ten windows
        said += not torch.equal(loss(asking, batch(), index), loss(asking, other_state(batch()), index))
        assert torch.equal(loss(free, batch(), index), loss(free, other_state(batch()), index))
        assert torch.equal(loss(asking, unknown(batch()), index), loss(free, batch(), index))
        loss(asking, batch(), index).backward()
    assert said
    assert asking.generator.controls.gaze.weight.grad.any()


def test_the_past_is_noised_as_far_as_is_said():
    clean, noised = (objective(max_context_noise=noise, drop_odds=0.0) for noise in (0.0, 0.7))
    assert not torch.equal(loss(clean, batch()), loss(noised, batch()))
    assert torch.equal(loss(clean, batch()), loss(objective(max_context_noise=0.0, drop_odds=0.0), batch()))


@pytest.mark.parametrize("train_audio", [True, False])
def test_training_lowers_the_loss_and_leaves_a_trained_audio_encoder_alone(tmp_path, train_audio):
    def endless(first):
        while True:
            yield batch()

    model = objective(train_audio=train_audio)
    before = {name: value.clone() for name, value in model.audio.state_dict().items()}
    config = LoopConfig(num_steps=40, learning_rate=1e-2, warmup_steps=2, log_every_steps=10)
    train(model, endless, config, tmp_path)
    log = read_log(tmp_path)
    assert log[-1]["velocity"] < log[0]["velocity"]
    same = all(torch.equal(value, before[name]) for name, value in model.audio.state_dict().items())
    assert same != train_audio
