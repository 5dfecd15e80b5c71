from dataclasses import replace

import pytest
import torch

from vivavoz.errors import ConfigError
from vivavoz.generator.config import lite_generator_config, paper_generator_config, tiny_generator_config
from vivavoz.generator.generator import Generator


@pytest.mark.parametrize(
    ("config", "least", "most"),
    [
        (paper_generator_config(), 0.95e9, 1.05e9),
        (lite_generator_config(), 3e6, 4e6),
        (tiny_generator_config(), 0, 1e5),
    ],
)
def test_parameter_counts(config, least, most):
    with torch.device("meta"):
        generator = Generator(config)
    assert least <= sum(parameter.numel() for parameter in generator.parameters()) <= most


def test_paper_is_as_published():
    config = paper_generator_config()
    assert (config.depth, config.num_heads, config.head_dim, config.width) == (24, 12, 128, 1536)
    assert (config.latent_channels, config.block_latents, config.window_latents, config.max_references) == (64, 4, 32, 3)
    assert not config.controls


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_latents": 3}, "block_latents"),
        ({"window_latents": 7}, "window_latents"),
        ({"head_dim": 4}, "head_dim"),
        ({"head_dim": 17}, "head_dim"),
        ({"max_references": 0}, "max_references"),
        ({"homing": ((64, 0.1),)}, "homing is .*, with 64 latent channels"),
        ({"homing": ((0, 1.1),)}, "a share from 0 to 1"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(tiny_generator_config(), **changes)
