from dataclasses import replace

import pytest

from vivavoz.errors import ConfigError
from vivavoz.vae.config import VAEConfig, WarpConfig, lite_vae_config, paper_vae_config, tiny_vae_config


def test_compression_ratio_of_the_paper() -> None:
    assert paper_vae_config().compression_ratio == 768
    assert lite_vae_config().compression_ratio == 768


def test_paper_size_uses_nothing_beyond_the_paper() -> None:
    config = paper_vae_config()
    assert config == VAEConfig()
    assert config.warp is None
    assert config.residual
    assert config.references
    assert (config.outer_temporal_kernel, config.inner_temporal_kernel) == (3, 3)
    assert (config.fusion_blocks, config.feature_channels // config.fusion_head_dim, config.fusion_head_dim) == (6, 16, 64)
    assert sum(config.encoder1_blocks) == 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fusion_head_dim": 12}, "fusion_head_dim"),
        ({"feature_channels": 24, "fusion_head_dim": 6}, "multiple of 4"),
        ({"encoder1_channels": (4, 20, 8, 16)}, "encoder cannot go from 4 to 20"),
        ({"encoder1_channels": (4, 8, 6, 16)}, "encoder cannot go from 8 to 6"),
        ({"decoder2_channels": (16, 8, 8, 1)}, "decoder cannot go from 8 to 1"),
        ({"decoder1_channels": (16, 10)}, "decoder cannot go from 16 to 10"),
        ({"references": False, "warp": WarpConfig()}, "warp needs references"),
        ({"resting_codes": ((0, 0.0, 1.0),)}, "resting_codes is .*, with 0 frame_codes"),
        ({"frame_codes": 3, "resting_codes": ((0, 0.0, -1.0),)}, "an error of at least 0"),
    ],
)
def test_sizes_that_cannot_work_are_refused(change: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        replace(tiny_vae_config(), **change)


def test_widths_need_not_divide_without_shortcuts() -> None:
    replace(tiny_vae_config(), decoder2_channels=(16, 8, 8, 1), residual=False)
