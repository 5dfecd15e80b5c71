from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import torch

from tests.models import lively_model, portrait, posing_model, tiny_model
from tests.unit.train.material import portraits, small_preset
from vivavoz.engine.trees import tensors_of
from vivavoz.errors import ConfigError, DataError
from vivavoz.media.crop import crop_portrait
from vivavoz.rig.finder import find_landmarks
from vivavoz.rig.labels import LABELS
from vivavoz.rig.posing import mouth_poses
from vivavoz.rig.rig import Rig
from vivavoz.train.loop import LoopConfig
from vivavoz.train.personal import PersonalTraining, PersonClips, personal_training, personalise
from vivavoz.train.vae_training import VAETraining

STEPS = 12
LOOP = LoopConfig(num_steps=STEPS, learning_rate=3e-2, warmup_steps=1, weight_decay=0, log_every_steps=1, save_every_s=1e9)
TRAINING = PersonalTraining(vae=VAETraining(loop=LOOP), num_frames=2, num_render_processes=0)


def an_avatar():
    return lively_model(small_preset()).avatar(portraits().images[0], "none")


def a_rig():
    return portraits().rig(0)


def test_pictures_of_the_person_come_closer_and_no_weight_changes(tmp_path):
    avatar, lines = an_avatar(), []
    before = {name: tensor.clone() for name, tensor in avatar.model.state_dict().items()}
    personal = personalise(avatar, tmp_path, TRAINING, rig=a_rig(), report=lines.append)
    sums = [sum(value for name, value in line.items() if name in ("l1", "gradient", "flow")) for line in lines]
    assert len(sums) == STEPS
    assert np.mean(sums[-3:]) < 0.9 * np.mean(sums[:3])
    assert all(torch.equal(tensor, before[name]) for name, tensor in avatar.model.state_dict().items())
    shapes = [[tensor.shape for tensor in tensors_of(one.references)] for one in (avatar, personal)]
    assert shapes[0] == shapes[1]
    assert torch.equal(personal.references.photos, avatar.references.photos)
    assert not any(tensor.requires_grad for tensor in tensors_of(personal.references))
    assert next(personal.stream().push(np.zeros(12_000, np.float32))).image.shape == (avatar.size, avatar.size, 3)


def test_both_poses_of_a_portrait_are_learnt_and_shown(tmp_path):
    avatar = posing_model().avatar(skimage.data.astronaut())
    crop = crop_portrait(skimage.data.astronaut()).image
    rig = Rig.from_image(crop, find_landmarks(crop))
    lines = []
    personal = personalise(avatar, tmp_path, TRAINING, rig=rig, report=lines.append)
    assert np.isfinite([value for line in lines for value in line.values()]).all()
    shapes = [[tensor.shape for tensor in tensors_of(one.references)] for one in (avatar, personal)]
    assert shapes[0] == shapes[1]
    assert len(personal.shown) == personal.references.num_references == 2
    assert all(np.abs(theirs.astype(int) - mine).mean() < 1 for theirs, mine in zip(personal.shown, avatar.shown, strict=True))
    known = torch.from_numpy(rig.labels(mouth_poses(rig, avatar.model.preset.posed_jaws)))
    assert torch.allclose(personal.references.latents[0, :, : len(LABELS), 0, 0], known)
    personal.save(tmp_path / "eve.safetensors")
    again = avatar.model.avatar(tmp_path / "eve.safetensors").references
    assert all(torch.equal(*pair) for pair in zip(tensors_of(again), tensors_of(personal.references), strict=True))


def test_a_run_that_was_stopped_goes_on_and_another_person_is_refused(tmp_path):
    whole = personalise(an_avatar(), tmp_path / "whole", TRAINING, rig=a_rig())

    class Stopped(Exception):
        pass

    def stop(line):
        if line["step"] == STEPS // 2:
            raise Stopped

    training = replace(TRAINING, vae=VAETraining(loop=replace(LOOP, save_every_s=0)))
    with pytest.raises(Stopped):
        personalise(an_avatar(), tmp_path / "parts", training, rig=a_rig(), report=stop)
    steps = []
    parts = personalise(an_avatar(), tmp_path / "parts", training, rig=a_rig(), report=lambda line: steps.append(line["step"]))
    assert 1 < steps[0] <= STEPS // 2
    assert all(torch.equal(*pair) for pair in zip(tensors_of(whole.references), tensors_of(parts.references), strict=True))
    with pytest.raises(DataError, match="another recipe"):
        personalise(lively_model(small_preset()).avatar(portrait(), "none"), tmp_path / "parts", training, rig=a_rig())


def test_batches_are_the_person_in_the_portraits_own_light():
    batch, again = (PersonClips(a_rig(), a_rig().rest()[None], num_frames=3, size=64)[1] for _ in range(2))
    assert torch.equal(batch.frames, again.frames)
    assert batch.frames.shape == (3, 1, 64, 64, 3)
    rest = a_rig().render(None, 64, flow_size=0).image
    assert np.array_equal(batch.references[0, 0].numpy(), rest)


def test_what_cannot_be_personal_is_told(tmp_path):
    model = lively_model(small_preset())
    both = model.avatar([portrait(0), portrait(1)], "none")
    with pytest.raises(ConfigError, match="got an avatar of 2 portraits, expected one"):
        personalise(both, tmp_path, TRAINING, rig=a_rig())
    with pytest.raises(ConfigError, match="the preset tiny does not decode labels"):
        personalise(tiny_model().avatar(portrait(), "none"), tmp_path, TRAINING, rig=a_rig())
    for minutes in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="minutes of training, expected more than 0"):
            personal_training(minutes)
