import json
from dataclasses import replace

import pytest
import torch

from vivavoz.cli import main
from vivavoz.generator.masks import teacher_forcing_mask
from vivavoz.train.memory_plan import latent_step, measure_activations, plan_latents, plan_video, shapes_only, video_step
from vivavoz.train.paper_recipes import paper_generator_recipe, tiny_generator_recipe, tiny_vae_recipe


def steps():
    video, latent = tiny_vae_recipe(), tiny_generator_recipe()
    return [video_step(video, video.phases[0]), latent_step(latent)]


@pytest.mark.parametrize("which", [0, 1])
def test_shapes_alone_tell_what_a_real_step_keeps(which):
    make, batch = steps()[which]
    real = measure_activations(make(), batch(2), bf16=False)
    with shapes_only():
        told = measure_activations(make(), batch(2), bf16=False)
    assert told.between == pytest.approx(real.between, rel=0.02)
    assert sum(within for _, within in told.blocks) == pytest.approx(sum(within for _, within in real.blocks), rel=0.02)
    assert len(told.blocks) == len(real.blocks) > 1
    assert 0 < told.peak(checkpointing=True) < told.peak(checkpointing=False)
    assert type(teacher_forcing_mask(3, 8, 4)) is torch.Tensor  # nothing fake is left behind


def test_weights_are_counted_and_shared():
    recipe = tiny_generator_recipe()
    objective = latent_step(recipe)[0]()
    learning = sum(parameter.numel() for parameter in objective.parameters() if parameter.requires_grad)
    alone, shared = plan_latents(recipe, ranks=(1, 4))
    assert (alone.parameters, alone.gradients, alone.optimizer, alone.average) == tuple(learning * n for n in (4, 4, 8, 4))
    assert shared.parameters == learning
    assert alone.gathered == 0 < shared.gathered
    assert (alone.windows, shared.windows) == (4, 1)
    assert alone.accumulate_steps == shared.accumulate_steps == 1
    assert alone.activations == pytest.approx(4 * shared.activations, rel=0.01)
    assert [row.name for row in plan_video(tiny_vae_recipe(), ranks=(2,))] == [
        "VAE, 5 frames at 64 px",
        "VAE, 17 frames at 64 px",
    ]


def test_the_paper_generator_fits_and_tells_what_takes_how_much():
    recipe = paper_generator_recipe()
    one, eight, many = plan_latents(recipe)
    assert one.parameters == pytest.approx(4.13e9, rel=0.01)  # 1.03 billion
    assert many.total < eight.total < 80e9
    assert one.total < 80e9
    assert one.accumulate_steps > 1
    (kept,) = plan_latents(replace(recipe, checkpointing=False), ranks=(128,))
    assert kept.activations > 5 * many.activations


def test_the_command_prints_a_table(capsys):
    assert main(["info", "tiny", "--memory"]) == 0
    assert "generator, 8 latents" in capsys.readouterr().out
    assert main(["info", "lite", "--memory"]) == 2
    assert "expected paper or tiny" in capsys.readouterr().err
    assert main(["info", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["preset"] == "tiny"
