from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from tests.models import images, lively_model, play, portrait, speech, tiniest, tiniest_avatar
from vivavoz.engine import runtime
from vivavoz.engine.cpu_compose import photos_in_8_bits
from vivavoz.engine.trees import tensors_of
from vivavoz.errors import ConfigError
from vivavoz.presets import tiny


@pytest.mark.slow
@pytest.mark.skipif(not runtime.has_compiler(), reason="no C++ compiler")
def test_compiled_steps_make_the_same_pictures_and_compile_once() -> None:
    model = lively_model(tiniest())
    # Long enough to fill a window and go on.
    sound = speech(640 * 4 * (model.preset.generator.window_latents + 5))
    avatar = model.avatar(portrait(), crop="none")
    expected = images(play(avatar.stream(), sound)).astype(int)
    model.use_runtime("compiled")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(2):
            got = images(play(avatar.stream(), sound)).astype(int)
            assert np.abs(got - expected).max() <= 1
            assert (got != expected).mean() < 0.01


@pytest.mark.parametrize("num_portraits", [1, 2])
def test_the_cpu_runtime_makes_the_same_pictures_within_40_db(num_portraits: int) -> None:
    """A photograph of a face, bent further than it ever is in use, shaded and painted over."""
    model = lively_model(tiny(warp=True))
    astronaut = skimage.data.astronaut()
    avatar = model.avatar([astronaut, astronaut[:, ::-1]][:num_portraits], crop="none")
    with torch.inference_mode():
        model.vae.head.conv_out.weight.mul_(0.2)  # fields as smooth as learned ones are
    sound = speech(6_400)
    expected = images(play(avatar.stream(), sound)).astype(float)
    model.use_runtime("auto")
    assert model.runtime.name == "cpu"
    got = images(play(avatar.stream(), sound)).astype(float)
    assert np.abs(expected - avatar.crops[0].image).mean() > 5, "the picture is not just the photograph"
    assert 10 * np.log10(255**2 / np.square(got - expected).mean()) >= 40


def test_the_cpu_runtime_is_for_warps_on_cpus() -> None:
    assert runtime.fastest_runtime(torch.device("cpu"), tiny(warp=True).vae)[0] == "cpu"
    assert runtime.fastest_runtime(torch.device("cpu"), tiny().vae)[0] == "eager"
    assert runtime.fastest_runtime(torch.device("cuda"), tiny(warp=True).vae)[0] == "eager"
    with pytest.raises(ConfigError, match="the cpu runtime is for models with a reference warp"):
        lively_model(tiniest()).use_runtime("cpu")


def test_photographs_are_turned_into_levels_once() -> None:
    photos = torch.linspace(-1.2, 1.2, 24).reshape(1, 1, 3, 2, 4)
    levels = photos_in_8_bits(photos)
    assert photos_in_8_bits(photos) is levels
    assert photos_in_8_bits(photos + 0.0) is not levels
    assert np.array_equal(levels[0, 0, ..., 1], ((photos[0, 0, 1] * 127.5 + 127.5).round().clamp(0, 255)).byte().numpy())


def test_more_steps_are_modulated_by_their_own_times() -> None:
    stream = tiniest_avatar().stream(num_steps=2)
    assert len(stream.modulations) == 3
    stream.use(num_steps=4, block_latents=stream.sampling.block_latents)
    expected = stream._model.generator.modulations(stream.flow_times)
    assert len(stream.modulations) == 5
    assert all(torch.equal(a, b) for a, b in zip(tensors_of(stream.modulations), tensors_of(expected), strict=True))


def test_what_keeps_a_runtime_from_running_is_said() -> None:
    found = runtime.obstacles(torch.device("cpu"), tiny(warp=True).vae)
    assert found["eager"] is found["cpu"] is None
    assert found["openvino"] == "for presets whose decoder sees single pictures"
    assert found["cuda-graphs"] == "needs a CUDA device"
    assert found.keys() == set(runtime.RUNTIME_NAMES) - {"auto"}
    assert runtime.obstacles(torch.device("cpu"), tiny().vae)["cpu"] == "for presets with a reference warp"
    assert runtime.obstacles(torch.device("cuda"), tiny().vae)["cuda-graphs"] is None


def test_without_a_compiler_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "has_compiler", lambda: False)
    with pytest.raises(ConfigError, match=r"found no C\+\+ compiler"):
        lively_model(tiniest()).use_runtime("compiled")


def test_another_runtime_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="unknown runtime 'fast'; expected one of auto, eager, cpu, openvino, openvino-int8, compiled"
    ):
        lively_model(tiniest()).use_runtime("fast")
