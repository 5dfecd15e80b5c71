from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from tests.models import images, lively_model, picturewise, play, posing_model, speech
from vivavoz.engine import openvino_runtime
from vivavoz.engine.avatar import Avatar
from vivavoz.engine.model import Model
from vivavoz.errors import ConfigError
from vivavoz.presets import tiny

needs_openvino = pytest.mark.skipif(openvino_runtime.lacks(int8=False) is not None, reason="no OpenVINO")
needs_nncf = pytest.mark.skipif(openvino_runtime.lacks(int8=True) is not None, reason="no NNCF")


@cache
def model_and_avatars() -> tuple[Model, list[Avatar]]:
    model = lively_model(picturewise())
    with torch.inference_mode():
        for conv in (model.vae.head.conv_out, model.vae.head.bases.conv_out):
            conv.weight.mul_(0.2)  # fields as smooth as learned ones are
    face = skimage.data.astronaut()
    return model, [model.avatar([face], crop="none"), model.avatar([face, face[:, ::-1]], crop="none")]


def psnr_to_eager(name: str, avatar: Avatar) -> float:
    sound = speech(6_400)
    avatar.model.use_runtime("eager")
    expected = images(play(avatar.stream(), sound)).astype(float)
    avatar.model.use_runtime(name)  # type: ignore[arg-type]
    got = images(play(avatar.stream(), sound)).astype(float)
    assert np.abs(expected - avatar.crops[0].image).mean() > 5, "the picture is not just the photograph"
    return float(10 * np.log10(255**2 / np.square(got - expected).mean()))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.slow
@needs_openvino
def test_pictures_are_eagers_within_40_db_and_the_export_is_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (one, two) = model_and_avatars()
    assert psnr_to_eager("openvino", one) >= 40
    assert psnr_to_eager("openvino", two) >= 40
    assert len(list(own_cache.glob("vivavoz/openvino/*/decoder.xml"))) == 2

    def refuse(*_: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(openvino_runtime, "_exported", refuse)
    assert psnr_to_eager("openvino", one) >= 40


@pytest.mark.slow
@needs_nncf
def test_int8_is_close_and_calibrated_on_the_same_pictures_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (one, _) = model_and_avatars()
    monkeypatch.setattr(openvino_runtime, "CALIBRATION_S", 1)
    monkeypatch.setattr(openvino_runtime, "CALIBRATION_PICTURES", 6)
    first, again = (openvino_runtime.calibration_inputs(model, 1) for _ in range(2))
    assert len(first) == 6
    assert all(np.array_equal(a, b) for one_, other in zip(first, again, strict=True) for a, b in zip(one_, other, strict=True))
    assert np.abs(first[0][0] - first[-1][0]).max() > 0.01, "the clip moves"
    psnr = psnr_to_eager("openvino-int8", one)
    assert 25 <= psnr < 60, "8 bits cost something"


def test_every_number_of_references_is_calibrated_with_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_runtime, "CALIBRATION_S", 1)
    monkeypatch.setattr(openvino_runtime, "CALIBRATION_PICTURES", 2)
    model = posing_model()
    for count in (1, 2, 3):
        _, latents, *_ = openvino_runtime.calibration_inputs(model, count)[0]
        assert latents.shape[:2] == (1, count)


def test_a_model_it_is_not_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_runtime, "lacks", lambda **_: None)
    with pytest.raises(ConfigError, match="the openvino runtime is for float32 models on a CPU whose decoder sees single"):
        lively_model(tiny(warp=True)).use_runtime("openvino")


def test_without_openvino_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_runtime.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"openvino, nncf, skimage not installed: pip install 'vivavoz\[openvino\]'"):
        lively_model(picturewise()).use_runtime("openvino-int8")
