from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models import images, lively_model, play, portrait, speech, tiniest
from vivavoz.engine import runtime
from vivavoz.errors import ConfigError


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


def test_without_a_compiler_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "has_compiler", lambda: False)
    with pytest.raises(ConfigError, match=r"found no C\+\+ compiler"):
        lively_model(tiniest()).use_runtime("compiled")


def test_another_runtime_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown runtime 'fast'; expected one of auto, eager, compiled"):
        lively_model(tiniest()).use_runtime("fast")
