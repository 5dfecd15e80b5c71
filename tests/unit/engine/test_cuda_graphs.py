"""CUDA graphs where there is no CUDA: what a recording does with its arguments; and, marked gpu, the graphs themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.models import images, lively_model, play, portrait, speech, tiniest
from vivavoz.engine.cuda_graphs import Recorded, in_float8, is_worth_float8, recorded
from vivavoz.engine.model import Model
from vivavoz.engine.runtime import eager_runtime
from vivavoz.engine.trees import tensors_of
from vivavoz.errors import ConfigError
from vivavoz.generator.generator import Generator
from vivavoz.generator.state import CacheRead
from vivavoz.presets import Preset, SamplingConfig, tiny

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class FakeGraphs:
    """Records as CUDA does: a replay runs the same operations on the same memory, and nothing else of Python."""

    def __init__(self) -> None:
        self.num_recordings = self.num_replays = 0

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, fill: Callable[[], Any], run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.num_recordings += 1
        for _ in range(3):
            fill()
            run()
        fill()
        result = run()

        def replay() -> None:
            self.num_replays += 1
            for mine, new in zip(tensors_of(result), tensors_of(run()), strict=True):
                mine.copy_(new)

        return replay, result


def guided_tiniest() -> Preset:
    return replace(tiniest(), sampling=SamplingConfig(num_steps=2, guidance_audio=2, guidance_reference=1.5))


def use_fake_graphs(model: Model) -> FakeGraphs:
    graphs = FakeGraphs()
    steps = replace(eager_runtime(model), cache_read=CacheRead.MASKED)
    model.runtime = recorded(steps, model.generator, name="cuda-graphs", generating=graphs, decoding=graphs)
    return graphs


def test_recorded_steps_make_the_same_pictures_and_are_recorded_once() -> None:
    model = lively_model(guided_tiniest())
    avatars = [model.avatar(portrait(seed), crop="none") for seed in range(2)]
    sound = speech(640 * 4 * (model.preset.generator.window_latents + 5))  # a window and more
    expected = [images(play(avatar.stream(seed=3), sound)).astype(int) for avatar in avatars]
    graphs = use_fake_graphs(model)
    for avatar, pictures in zip(avatars, expected, strict=True):
        got = images(play(avatar.stream(seed=3), sound)).astype(int)
        assert np.abs(got - pictures).max() <= 1
    assert graphs.num_recordings == 3, "the loop, the clean pass and the decoding, for all persons and places of the window"
    assert graphs.num_replays > 10


def test_other_settings_are_recorded_anew() -> None:
    model = lively_model(guided_tiniest())
    avatar = model.avatar(portrait(), crop="none")
    sound = speech(640 * 4 * 6)
    settings = [{"num_steps": 3}, {"guidance_audio": 1.0}, {"block_latents": 1}]
    expected = [images(play(avatar.stream(**changed), sound)).astype(int) for changed in settings]
    graphs = use_fake_graphs(model)
    play(avatar.stream(), sound)
    for changed, pictures in zip(settings, expected, strict=True):
        got = images(play(avatar.stream(**changed), sound)).astype(int)
        assert np.abs(got - pictures).max() <= 1
    assert graphs.num_recordings == 3 + 1 + 1 + 3, "steps and scales change the loop, the block's size everything"


def test_recorded_steps_overlap_and_the_generators_take_turns_with_one_another_only() -> None:
    model = lively_model(guided_tiniest())
    avatar = model.avatar(portrait(), crop="none")
    sound = speech(640 * 4 * (model.preset.generator.window_latents + 5))
    expected = images(play(avatar.stream(seed=3), sound)).astype(int)
    steps = replace(eager_runtime(model), cache_read=CacheRead.MASKED)
    generating, decoding = FakeGraphs(), FakeGraphs()
    model.runtime = recorded(steps, model.generator, name="cuda-graphs", generating=generating, decoding=decoding)
    in_turn, beside = (images(play(avatar.stream(seed=3, overlap=overlap), sound)) for overlap in (False, True))
    assert np.array_equal(in_turn, beside)
    assert np.abs(beside.astype(int) - expected).max() <= 1
    assert (generating.num_recordings, decoding.num_recordings) == (2, 1)


def test_results_are_the_callers_own_and_states_are_written_back() -> None:
    def step(x: Tensor, state: tuple[Tensor]) -> Tensor:
        state[0].add_(x)
        return state[0] * 2

    run = Recorded(step, recorder=FakeGraphs(), written=1)
    mine, yours = (torch.zeros(2),), (torch.full((2,), 10.0),)
    first = run(torch.ones(2), mine)
    second = run(torch.ones(2), yours)
    third = run(torch.ones(2), mine)
    assert [int(x[0]) for x in (first, second, third, mine[0], yours[0])] == [2, 22, 4, 2, 11]


def test_float8_is_for_the_products_of_the_blocks() -> None:
    with torch.device("meta"):
        generator = Generator(tiny().generator)
    chosen = {name for name, module in generator.named_modules() if is_worth_float8(module, name)}
    layers = ("attention.qkv", "attention.out", "mlp.0", "mlp.2")
    assert chosen == {f"transformer.blocks.{i}.{layer}" for i in range(2) for layer in layers}
    assert not is_worth_float8(nn.Linear(24, 32), "transformer.blocks.0.mlp.0"), "no kernel takes 24 channels"


def test_float8_converts_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchao itself refuses to convert where there is no such device."""
    quantization = pytest.importorskip("torchao.quantization")

    def zero(module: nn.Module, config: object, filter_fn: Callable[[nn.Module, str], bool]) -> None:
        assert isinstance(config, quantization.Float8DynamicActivationFloat8WeightConfig)
        for name, layer in module.named_modules():
            if filter_fn(layer, name):
                layer.weight.data.zero_()

    monkeypatch.setattr(quantization, "quantize_", zero)
    generator = Generator(tiny().generator)
    quantised = in_float8(generator)
    assert not quantised.transformer.blocks[0].mlp[0].weight.any()
    assert generator.transformer.blocks[0].mlp[0].weight.any()
    assert quantised.latent_in.weight.any()


@pytest.mark.parametrize("name", ["cuda-graphs", "cuda-graphs-compiled", "cuda-graphs-fp8"])
def test_without_cuda_it_is_said(name: str) -> None:
    with pytest.raises(ConfigError, match=f"the {name} runtime is for models on a CUDA device, got one on cpu"):
        lively_model(tiniest()).use_runtime(name)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", ["cuda-graphs", "cuda-graphs-compiled"])
@pytest.mark.parametrize("warp", [False, True])
def test_graphs_make_the_same_pictures_as_eager(name: str, warp: bool) -> None:
    model = lively_model(tiny(warp=warp)).to("cuda")
    avatar = model.avatar([portrait(0), portrait(1)], crop="none")
    sound = speech(640 * 4 * (model.preset.generator.window_latents + 5))
    expected = images(play(avatar.stream(), sound)).astype(int)
    model.use_runtime(name)
    for _ in range(2):
        got = images(play(avatar.stream(), sound)).astype(int)
        assert np.abs(got - expected).max() <= 2
        assert (got != expected).mean() < 0.02


@pytest.mark.gpu
@needs_gpu
def test_float8_velocities_are_within_5_percent() -> None:
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("no float8 on this device")
    pytest.importorskip("torchao")
    model = lively_model(tiny()).to_compute("cuda", torch.bfloat16)
    quantised = in_float8(model.generator)
    rng = torch.Generator("cuda").manual_seed(0)
    state = model.generator.init_state(1, (8, 8), num_references=1)
    config = model.preset.generator
    references = torch.randn(1, config.latent_channels, 1, 8, 8, device="cuda", generator=rng)
    z = torch.randn(1, config.latent_channels, 4, 8, 8, device="cuda", generator=rng)
    conditions = torch.randn(1, 4, config.condition_channels, device="cuda", generator=rng)
    with torch.inference_mode():
        model.generator.prefill(references, state)
        expected, got = (
            generator.velocity(z, conditions, torch.tensor(0.6, device="cuda"), state).float()
            for generator in (model.generator, quantised)
        )
    assert (got - expected).norm() / expected.norm() < 0.05
