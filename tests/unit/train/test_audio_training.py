import itertools

import numpy as np
import torch

from tests.unit.train.material import small_preset
from tests.unit.train.test_generator_training import wishes
from vivavoz.audio.encoder import AudioEncoder
from vivavoz.data.rig_labels import LABELS
from vivavoz.train.audio_training import AudioObjective, AudioTraining
from vivavoz.train.checkpoint import load_part
from vivavoz.train.generator_training import Take, hear
from vivavoz.train.logs import read_log
from vivavoz.train.loop import LoopConfig, train


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
        labels = np.broadcast_to(loud[:, None], (40, len(LABELS))).astype(np.float32)
        made.append(Take(windows, labels, labels[0], wishes(40)))
    return made


def test_training_lowers_the_loss(tmp_path):
    torch.manual_seed(0)
    settings = AudioTraining(loop=LoopConfig(num_steps=120, learning_rate=0.01, warmup_steps=1), batch_size=8)
    trained = encoder()
    objective = AudioObjective(trained, takes(), settings)
    train(objective, objective.batches, settings.loop, tmp_path)
    log = read_log(tmp_path)
    assert [line["step"] for line in log] == [20, 40, 60, 80, 100, 120]
    assert log[-1]["lips"] < 0.7 * log[0]["lips"]
    assert not trained.training
    saved = encoder(1)
    load_part(tmp_path, "encoder", saved)
    assert all(torch.equal(saved.state_dict()[name], weight) for name, weight in trained.state_dict().items())


def test_a_step_has_its_own_windows_wherever_a_run_begins():
    objective = AudioObjective(encoder(), takes(), AudioTraining(loop=LoopConfig(num_steps=9), batch_size=8))
    from_start = list(itertools.islice(objective.batches(0), 4))
    (third,) = itertools.islice(objective.batches(2), 1)
    assert torch.equal(third.windows, from_start[2].windows)
    assert torch.equal(third.lips, from_start[2].lips)
    assert not torch.equal(third.windows, from_start[3].windows)
    assert third.lips.shape == (8, 5 * 7)


def test_hearing_gives_every_picture_the_features_it_gets_at_inference():
    model, (first, *_) = encoder().train(), takes()
    (heard,) = hear(model, [first])
    assert heard.features.shape == (40, small_preset().audio.num_features)
    with torch.no_grad():
        torch.testing.assert_close(heard.features, model(first.windows[None])[0])
    assert not model.training
