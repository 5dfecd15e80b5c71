import json
from dataclasses import replace

import pytest

from vivavoz.config_json import from_plain, to_plain
from vivavoz.errors import ConfigError
from vivavoz.train.recipes import LiteRecipe, basis_labels, lite_recipe


def test_the_phases_share_the_budget():
    assert lite_recipe(minutes=90).budget_s == pytest.approx(90 * 60)
    one, two = lite_recipe(minutes=10), lite_recipe(minutes=20)
    assert two.vae[1].training.loop.budget_s == pytest.approx(2 * one.vae[1].training.loop.budget_s)
    assert two.generator[0].loop.budget_s == pytest.approx(2 * one.generator[0].loop.budget_s)


def test_every_phase_fits_the_preset():
    recipe = lite_recipe()
    size = recipe.preset.working_size
    for phase in (*(phase.clips for phase in recipe.vae), recipe.encoder_clips):
        assert phase.size == size
        assert sum(phase.reference_odds) == pytest.approx(1)
        assert (phase.num_frames - 1) % 4 == 0
    assert recipe.vae[0].training.pixel_weight == 0
    assert recipe.vae[0].clips.reference_odds[0] == 0  # without pixels and without a reference there is nothing to learn
    assert recipe.generator[-1].latent_side == size // 64
    assert all(training.num_latents <= recipe.preset.generator.window_latents for training in recipe.generator)


def test_clips_differ_from_phase_to_phase():
    recipe = lite_recipe()
    seeds = [phase.clips.deck.seed for phase in recipe.vae] + [recipe.encoder_clips.deck.seed, recipe.face.deck.seed]
    assert len(set(seeds)) == len(seeds)


def test_a_recipe_survives_json():
    recipe = lite_recipe(minutes=7)
    assert from_plain(LiteRecipe, json.loads(json.dumps(to_plain(recipe))), "recipe") == recipe


def test_only_what_has_a_basis_can_be_amplified():
    recipe = lite_recipe()
    assert set(recipe.basis_gains) <= set(basis_labels(recipe.preset))
    with pytest.raises(ConfigError, match="basis_gains has yaw, expected labels with a basis"):
        replace(recipe, basis_gains={"yaw": 2.0})


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_minutes_that_are_none_are_refused(minutes):
    with pytest.raises(ConfigError, match="positive"):
        lite_recipe(minutes=minutes)
