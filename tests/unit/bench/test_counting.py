from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vivavoz.bench.counting import StageCount, count_block, with_sampling
from vivavoz.engine.accounting import describe
from vivavoz.engine.model import Model
from vivavoz.presets import Preset, SamplingConfig, tiny
from vivavoz.vae.vae import References


@pytest.fixture(scope="module", params=[False, True], ids=["paint", "warp"])
def preset(request: pytest.FixtureRequest) -> Preset:
    return replace(tiny(warp=request.param), sampling=SamplingConfig(num_steps=3))


@cache
def counts(preset: Preset, sessions: int = 1, dtype: torch.dtype = torch.float32) -> dict[str, StageCount]:
    return {count.stage: count for count in count_block(preset, sessions=sessions, dtype=dtype)}


@torch.no_grad()
def references_of(model: Model) -> References:
    picture, photo = (torch.zeros(1, 1, 3, side, side) for side in (model.preset.working_size, model.preset.output_size))
    return model.vae.encode_references(picture, photo)


class Moved(TorchDispatchMode):
    """Numbers that products and convolutions read beside their weights, and write."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        place = {"aten::convolution": 0, "aten::addmm": 1, "aten::mm": 0}.get(func._schema.name)
        if place is not None:
            self.numbers += args[place].numel() + result.numel()
        return result


@torch.no_grad()
def test_features_of_the_decoder_are_what_its_layers_touch(preset: Preset) -> None:
    model, side = Model.initialised(preset), preset.working_size
    references = references_of(model)
    state = model.vae.init_decoder_state(1, side // 64, side // 64, 1)
    z = torch.zeros(1, preset.vae.latent_channels, 1, side // 64, side // 64)
    model.vae.decode(z, references, state)  # a video's first latent is another
    with Moved() as moved:
        model.vae.decode(z, references, state)
    # The convolutions also read the frames that their states keep: of each, the tail that goes in front.
    tails = sum(tensor.numel() for tensor in state.tensors())
    frames = 4
    found = sum(row.features_per_frame for row in describe(preset).stages if row.part == "decoder")
    assert found * frames == moved.numbers - tails
    pictures = 3 * preset.output_size**2
    expected_mb = 16 * (4 * found + pictures) / 1e6
    assert counts(preset)["decoder"].feature_mb == pytest.approx(expected_mb)


def test_caches_of_the_decoder_are_its_state_and_what_is_kept_of_portraits(preset: Preset) -> None:
    model, side = Model.initialised(preset), preset.working_size
    with torch.no_grad():
        kept = model.vae.encode_references(
            torch.zeros(1, 1, 3, side, side), torch.zeros(1, 1, 3, preset.output_size, preset.output_size)
        )
    state = model.vae.init_decoder_state(1, side // 64, side // 64, 1).num_bytes
    assert counts(preset)["decoder"].cache_mb == pytest.approx((2 * state + nbytes_for_decoding(kept)) / 1e6)


def nbytes_for_decoding(kept: References) -> int:
    tensors = [tensor for memory in kept.fusion for tensor in (memory.key, memory.value)]
    tensors += [*(kept.warp or ()), *(tensor for tensor in (kept.photos, kept.anchor) if tensor is not None)]
    return sum(tensor.nbytes for tensor in tensors)


def test_generator_reads_its_weights_and_caches_at_every_pass(preset: Preset) -> None:
    model = Model.initialised(preset)
    transformer = model.generator.transformer
    blocks = sum(p.numel() for name, p in transformer.blocks.named_parameters() if ".modulation." not in name)
    parts = (model.generator.latent_in, model.generator.condition_in, transformer.out)
    z_in, condition_in, out = (sum(p.numel() for p in part.parameters()) for part in parts)
    found = counts(preset)["generator"]
    # Three steps and the clean pass, which reads no conditions and gives no velocity.
    assert found.weight_mb * 1e6 == pytest.approx(4 * (4 * (blocks + z_in) + 3 * (condition_in + out)))
    # Two contexts, 12 of whose 16 latents and whose reference are read, and 4 written; keys and values of 1 token a latent.
    config = preset.generator
    numbers = 2 * 2 * config.depth * config.num_heads * config.head_dim
    # The masks beside the cache are a hundredth.
    assert found.cache_mb * 1e6 == pytest.approx(4 * numbers * (4 * 13 + 4), rel=0.02)


def test_sessions_multiply_all_but_weights(preset: Preset) -> None:
    one, three = counts(preset), counts(preset, sessions=3)
    for stage, count in one.items():
        assert three[stage].gflop == pytest.approx(3 * count.gflop)
        assert three[stage].cache_mb == pytest.approx(3 * count.cache_mb)
        assert three[stage].feature_mb == pytest.approx(3 * count.feature_mb)
        assert three[stage].weight_mb == count.weight_mb


def test_half_precision_halves_what_is_not_hearing_or_a_picture(preset: Preset) -> None:
    full, half = counts(preset), counts(preset, dtype=torch.bfloat16)
    assert half["audio"] == full["audio"]
    assert half["generator"].megabytes == pytest.approx(full["generator"].megabytes / 2)
    assert half["generator"].gflop == full["generator"].gflop
    pictures_mb = 16 * 3 * preset.output_size**2 / 1e6
    assert half["decoder"].feature_mb - pictures_mb == pytest.approx((full["decoder"].feature_mb - pictures_mb) / 2)


def test_guidance_off_is_one_branch() -> None:
    guided, alone = (counts(with_sampling(tiny(), 4, scale, 4))["generator"] for scale in (2.0, 1.0))
    assert 2 < guided.gflop / alone.gflop < 3  # three branches a step, two contexts in the clean pass
    assert guided.cache_mb == pytest.approx(2 * alone.cache_mb)


def test_sampling_that_is_not_given_stays_the_presets() -> None:
    assert with_sampling(tiny(), None, None, None) == tiny()
    assert with_sampling(tiny(), 7, 3.0, 1).sampling == SamplingConfig(
        num_steps=7, guidance_audio=3.0, guidance_reference=3.0, block_latents=1
    )
