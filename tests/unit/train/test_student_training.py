from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from tests.models import lively_model
from tests.unit.train.material import small_preset
from tests.unit.train.test_generator_training import SETTINGS, heard, smooth_takes
from vivavoz.errors import ConfigError
from vivavoz.flow.guidance import guide
from vivavoz.presets import SamplingConfig
from vivavoz.rig.labels import LABELS
from vivavoz.train.generator_training import draw_windows
from vivavoz.train.label_latents import LabelLatents
from vivavoz.train.loop import Step
from vivavoz.train.student_training import Distillation, LabelStudentObjective

CHANNELS = small_preset().generator.latent_channels


def generator():
    """One whose sound and references matter."""
    return lively_model(small_preset()).generator.eval()


@cache
def takes():
    return heard(smooth_takes())


def windows(seed=0):
    return draw_windows(takes(), LabelLatents(len(LABELS), CHANNELS), SETTINGS, np.random.default_rng(seed))


def objective(settings, student=None, teacher=None):
    return LabelStudentObjective(student or generator(), teacher or generator(), settings, SETTINGS, len(LABELS))


def step(seed=0):
    return Step(0, 0.0, torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_a_copy_of_an_unguided_teacher_has_nothing_to_learn_in_as_many_steps():
    settings = Distillation(num_steps=2, teacher_steps=2, guidance_audio=1.0)
    losses = objective(settings)(windows(), step())
    assert losses.keys() == {"step_1", "step_2"}
    assert all(float(loss) < 1e-10 for loss in losses.values())
    fewer = objective(replace(settings, teacher_steps=8))(windows(), step())
    guided = objective(replace(settings, guidance_audio=2.0))(windows(), step())
    assert all(float(loss) > 1e-6 for losses in (fewer, guided) for loss in losses.values())


def test_the_teacher_is_guided_as_in_inference():
    teacher, batch = generator(), windows()
    known = objective(Distillation()).known(batch, torch.Generator().manual_seed(1))
    z, t = torch.randn(known.context.shape, generator=torch.Generator().manual_seed(2)), torch.tensor(0.7)
    rows = len(z)

    def branch(drop_audio, mask):
        return teacher(
            z,
            known.context,
            t,
            known.references,
            known.audio,
            starts_video=known.starts_video,
            reference_mask=mask,
            drop_audio=torch.full((rows,), drop_audio),
            controls=known.controls,
            blocks=known.block_latents,
        )

    with torch.no_grad():
        full, no_audio = branch(False, known.reference_mask), branch(True, known.reference_mask)
        no_reference = branch(False, torch.zeros_like(known.reference_mask))
        assert (full - no_audio).abs().max() > 1e-3
        assert (full - no_reference).abs().max() > 1e-3
        for audio, reference in ((1.0, 1.0), (1.5, 1.0), (1.5, 2.5), (1.0, 2.0)):
            settings = Distillation(guidance_audio=audio, guidance_reference=reference)
            expected = guide(full, no_audio, no_reference, audio_scale=audio, reference_scale=reference)
            torch.testing.assert_close(known.guided(teacher, settings)(z, t), expected)


def test_every_row_keeps_a_reference_and_its_sound():
    taught, batch = objective(Distillation()), windows()
    drawn = [taught.known(batch, torch.Generator().manual_seed(seed)) for seed in range(40)]
    masks = torch.cat([known.reference_mask for known in drawn])
    assert masks.any(1).all()
    assert {1, 2, 3} == set(masks.sum(1).tolist())
    assert {known.block_latents for known in drawn} == {1, 2, 4}


def test_steps_bring_the_student_nearer_and_leave_the_teacher():
    taught = objective(Distillation(num_steps=2, teacher_steps=4, guidance_audio=2.0))
    before = {name: weight.clone() for name, weight in taught.teacher.state_dict().items()}
    optimizer = torch.optim.Adam([weight for weight in taught.parameters() if weight.requires_grad], lr=2e-3)

    @torch.no_grad()
    def measure():
        return sum(float(sum(taught(windows(seed), step(seed)).values())) for seed in (90, 91, 92))

    first = measure()
    for index in range(20):
        sum(taught(windows(index), step(index)).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert measure() < 0.85 * first
    assert all(torch.equal(weight, before[name]) for name, weight in taught.teacher.state_dict().items())
    assert all(weight.grad is None for weight in taught.teacher.parameters())


def test_the_student_is_sampled_as_it_was_trained():
    usual = SamplingConfig(num_steps=12, timestep_shift=5.0, guidance_audio=2.0, guidance_reference=2.0, block_latents=2)
    sampling = Distillation(num_steps=3, teacher_steps=12, timestep_shift=4.0).sampling(usual)
    assert sampling == SamplingConfig(
        num_steps=3, timestep_shift=4.0, guidance_audio=1.0, guidance_reference=1.0, block_latents=2
    )


@pytest.mark.parametrize(("num_steps", "teacher_steps"), [(2, 5), (0, 4), (4, 2)])
def test_steps_that_cannot_be_divided_are_refused(num_steps, teacher_steps):
    with pytest.raises(ConfigError, match="expected a multiple"):
        Distillation(num_steps=num_steps, teacher_steps=teacher_steps)
