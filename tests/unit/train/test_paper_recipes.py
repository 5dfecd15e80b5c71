import json

import pytest

from vivavoz.config_json import from_plain, to_plain
from vivavoz.errors import ConfigError
from vivavoz.train.checkpoint import Progress
from vivavoz.train.paper_recipes import (
    GENERATOR_RECIPES,
    VAE_RECIPES,
    LatentRecipe,
    VideoRecipe,
    paper_generator_recipe,
    paper_vae_recipe,
    shortened_latent,
    shortened_video,
)


def test_the_vae_recipe_has_the_numbers_of_supplement_b():
    recipe = paper_vae_recipe()
    assert recipe.preset.name == "paper"
    stages = [(phase.num_frames, phase.size_px, phase.batch_size, phase.loop.num_steps) for phase in recipe.phases]
    assert stages[:3] == [(5, 256, 512, 400_000), (17, 256, 256, 80_000), (73, 256, 128, 80_000)]
    assert [stage[:2] for stage in stages[3:]] == [(17, 512), (73, 512)]
    assert sum(stage[3] for stage in stages[3:]) == 40_000
    first, second = recipe.phases[0].loop, recipe.phases[1].loop
    assert first.rate(Progress(2_000)) == pytest.approx(1e-4, rel=1e-3)
    assert first.rate(Progress(400_000)) == pytest.approx(1e-5)
    assert second.rate(Progress(1_000)) == second.rate(Progress(80_000)) == pytest.approx(1e-5)


def test_the_generator_recipe_has_the_numbers_of_supplement_b():
    recipe = paper_generator_recipe()
    assert (recipe.num_latents, recipe.batch_size, recipe.loop.num_steps) == (32, 256, 250_000)
    assert (recipe.training.drop_odds, recipe.training.max_context_noise) == (0.1, 0.7)
    assert recipe.preset.generator.block_latents == 4
    assert recipe.preset.generator.window_latents == recipe.num_latents


@pytest.mark.parametrize("name", ["paper", "tiny"])
def test_recipes_are_plain_values(name):
    for kind, recipe in ((VideoRecipe, VAE_RECIPES[name]()), (LatentRecipe, GENERATOR_RECIPES[name]())):
        assert from_plain(kind, json.loads(json.dumps(to_plain(recipe))), "recipe") == recipe


def test_a_recipe_can_be_shortened():
    assert [phase.loop.num_steps for phase in shortened_video(paper_vae_recipe(), 50_000).phases] == [50_000] * 3 + [20_000] * 2
    short = shortened_latent(paper_generator_recipe(), 3).loop
    assert (short.num_steps, short.warmup_steps, short.log_every_steps) == (3, 1, 1)
    with pytest.raises(ConfigError, match="got 0 steps"):
        shortened_latent(paper_generator_recipe(), 0)
