from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from tests.models import images, lively_model, play, portrait, speech, tiniest
from vivavoz.bench.clock import clocked, spread_ms
from vivavoz.bench.speed import Plan, anybody, blocks_s, measure, measure_blocks, measure_waits, noise, open_model
from vivavoz.engine.model import Model
from vivavoz.engine.weights import save_model
from vivavoz.errors import ConfigError
from vivavoz.generator.state import GeneratorState
from vivavoz.presets import SamplingConfig

CPU = torch.device("cpu")
SAMPLING = SamplingConfig(num_steps=2, guidance_audio=1, guidance_reference=1, block_latents=2)


@cache
def model() -> Model:
    return lively_model(tiniest())


def test_spreads_are_percentiles_in_ms() -> None:
    found = spread_ms([i / 1000 for i in range(101)])
    assert (found.p50, found.p95, found.repeats) == (50.0, 95.0, 101)


def test_the_clock_changes_no_picture_and_leaves_the_model_as_it_was() -> None:
    avatar, samples = model().avatar(portrait(), crop="none"), speech(12_000)
    expected = images(play(avatar.stream(), samples))
    runtime, hear = model().runtime, model().audio.encoder.forward
    with clocked(model()) as spent:
        found = images(play(avatar.stream(), samples))
    np.testing.assert_array_equal(found, expected)
    assert min(spent.values()) > 0
    assert model().runtime is runtime
    assert model().audio.encoder.forward == hear


def test_blocks_stand_behind_the_fullest_window(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []
    runtime = model().runtime

    def told(what: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            state = next(one for one in arguments if isinstance(one, GeneratorState))
            seen.append((what, state.window_latents, int(state.full.filled_latents)))
            return step(*arguments)

        return run

    steps = {"velocity": told("step", runtime.velocity), "write_context": told("clean pass", runtime.write_context)}
    monkeypatch.setattr(model(), "runtime", replace(runtime, **steps))
    times_s = measure_blocks(anybody(model()), Plan(sampling=SAMPLING, warmup=1, repeats=2))
    assert model().preset.generator.window_latents == 16
    a_block = [("clean pass", 12, 12), ("step", 14, 14), ("step", 14, 14)]
    assert seen == [("step", 0, 0)] * 2 + a_block * 3
    assert {stage: len(times) for stage, times in times_s.items()} == {"audio": 2, "generator": 2, "decoder": 2}


def test_overlapping_blocks_stand_there_too_and_only_the_first_is_begun_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, bool]] = []
    runtime = model().runtime

    def velocity(*arguments: Any) -> Any:
        state = next(one for one in arguments if isinstance(one, GeneratorState))
        seen.append((state.window_latents, int(state.full.filled_latents) == state.window_latents))
        return runtime.velocity(*arguments)

    monkeypatch.setattr(model(), "runtime", replace(runtime, velocity=velocity))
    plan = Plan(sampling=SAMPLING, sessions=2, warmup=1, repeats=2)
    assert len(list(blocks_s(anybody(model()), plan, overlap=True))) == 1 + 1 + 2
    of_first, of_second, later = [(0, True)] * 2, [(2, True)] * 2, [(14, True)] * 2
    assert seen == (of_first + of_second) * 2 + later * 2 * 3


def test_waits_are_for_a_first_block_and_one_behind_the_fullest_window(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    runtime = model().runtime

    def velocity(*arguments: Any) -> Any:
        seen.extend(one.window_latents for one in arguments if isinstance(one, GeneratorState))
        return runtime.velocity(*arguments)

    monkeypatch.setattr(model(), "runtime", replace(runtime, velocity=velocity))
    avatar = anybody(model())
    first, later, session_mb = measure_waits(avatar, Plan(sampling=SAMPLING, warmup=1, repeats=2))
    assert seen == [0, 0, 14, 14] * 3
    assert first.repeats == later.repeats == 2
    assert session_mb == pytest.approx(avatar.stream(guidance_reference=1).state.num_bytes / 1e6, abs=0.01)


def test_figures_add_up() -> None:
    found = measure(model(), Plan(sampling=SAMPLING, sessions=3, warmup=0, repeats=1))
    assert found.frames == 3 * 2 * 4
    assert found.generating_ms.p50 == pytest.approx(found.stages_ms["audio"].p50 + found.stages_ms["generator"].p50, abs=0.01)
    assert found.block_ms.p50 == pytest.approx(found.generating_ms.p50 + found.decoding_ms.p50, abs=0.01)
    assert found.fps == pytest.approx(1000 * found.frames / found.block_ms.p50, rel=0.01)
    assert (found.runtime, found.rows_at_once) == ("eager", 1)
    assert found.overlapped_ms is None
    found = measure(model(), Plan(sampling=SAMPLING, sessions=2, warmup=0, repeats=3, overlap=True))
    assert found.overlapped_ms is not None
    assert found.overlapped_ms.repeats == 3


def test_weights_are_random_only_where_a_preset_has_none(tmp_path: Any) -> None:
    opened, is_random = open_model("tiny", CPU, torch.bfloat16)
    assert is_random
    assert opened.dtype == torch.bfloat16
    assert opened.audio.encoder.state_dict()  # hearing stays as it is
    assert all(p.dtype == torch.float32 for p in opened.audio.parameters())
    save_model(model(), tmp_path, torch.float32)
    opened, is_random = open_model(str(tmp_path), CPU, torch.float32)
    assert not is_random
    torch.testing.assert_close(opened.state_dict(), model().state_dict(), rtol=0, atol=0)
    with pytest.raises(ConfigError, match="unknown model 'nothing'"):
        open_model("nothing", CPU, torch.float32)


@pytest.mark.parametrize("name", ["sessions", "repeats", "warmup"])
def test_a_plan_refuses_what_cannot_be_done(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is -1, expected at least"):
        Plan(sampling=SAMPLING, **{name: -1})


def test_noise_is_the_same_every_time_and_not_silent() -> None:
    np.testing.assert_array_equal(noise(100), noise(100))
    assert 0.05 < noise(10_000).std() < 0.2
