"""`vivavoz bench` on small random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.models import lively_model, tiniest
from vivavoz.bench import report
from vivavoz.bench.counting import StageCount
from vivavoz.bench.machine import Peak
from vivavoz.bench.report import floor_ms
from vivavoz.cli import main
from vivavoz.engine.weights import save_model

PEAK = Peak(dtype="float32", product_gflops=200.0, copy_gb_s=10.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("weights")
    save_model(lively_model(tiniest()), folder, torch.float32)
    return str(folder)


@pytest.fixture(autouse=True)
def _known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own would take seconds and a gigabyte."""
    monkeypatch.setattr(report, "measure_peak", lambda device, dtype: PEAK)


def test_report_and_table_have_the_same_figures(weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "bench.json"
    options = ["--runtime", "eager,cpu", "--steps", "3", "--guidance", "2", "--block", "2", "--repeats", "2", "--warmup", "0"]
    assert main(["bench", "--model", weights, "--device", "cpu", "--overlap", *options, "-o", str(target)]) == 0
    table = capsys.readouterr().out
    figures = json.loads(target.read_text(encoding="utf-8"))

    assert figures["sampling"] == {
        "num_steps": 3,
        "timestep_shift": 5.0,
        "guidance_audio": 2.0,
        "guidance_reference": 2.0,
        "block_latents": 2,
    }
    assert [speed["runtime"] for speed in figures["speeds"]] == ["eager"]
    assert list(figures["left_out"]) == ["cpu"]
    assert "cpu: left out, the cpu runtime is for models with a reference warp" in " ".join(table.split())
    speed = figures["speeds"][0]
    assert speed["frames"] == 8
    assert speed["block_ms"]["repeats"] == 2
    assert f"{speed['fps']:,.1f}" in table
    assert f"{1000 * speed['frames'] / speed['overlapped_ms']['p50']:,.1f}" in table
    for stage in ("generating_ms", "decoding_ms", "overlapped_ms", "first_picture_ms", "later_picture_ms"):
        assert f"{speed[stage]['p50']:,.1f} / {speed[stage]['p95']:,.1f}" in table
    decoder = figures["counts"][2]
    share = decoder["gflop"] * 1000 / speed["stages_ms"]["decoder"]["p50"] / PEAK.product_gflops
    assert f"{share:.1%}" in next(line for line in table.splitlines() if line.split()[:1] == ["decoder"])


def test_counting_alone_runs_nothing_and_has_floors_of_cards(
    weights: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "open_model", None)
    assert main(["bench", "--model", weights, "--count", "--dtype", "bfloat16"]) == 0
    assert "floor H200" in capsys.readouterr().out
    assert main(["bench", "--model", weights, "--count", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [count["stage"] for count in figures["counts"]] == ["audio", "generator", "decoder"]
    assert figures["speeds"] == []
    assert figures["peak"] is None


def test_a_floor_is_the_longer_of_products_and_bytes() -> None:
    count = StageCount(stage="decoder", gflop=20.0, weight_mb=100.0, cache_mb=200.0, feature_mb=300.0)
    assert floor_ms(count, PEAK) == pytest.approx(100.0)
    assert floor_ms(count, Peak(dtype="float32", product_gflops=2000.0, copy_gb_s=10.0)) == pytest.approx(60.0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--runtime", "fast"], "unknown runtime 'fast'; expected all, or some of"),
        (["--runtime", "cpu"], "the cpu runtime is for models with a reference warp"),
        (["--steps", "0"], "num_steps is 0"),
        (["--sessions", "0"], "sessions is 0, expected at least 1"),
        (["--device", "abacus"], "cannot compute on 'abacus'"),
        (["--model", "nobody"], "unknown model 'nobody'"),
        (["-o", "figures.txt"], "its suffix is '.txt'; use one of .json"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str],
    complaint: str,
    weights: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "--model", weights, "--device", "cpu", *options]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("vivavoz: error: ")
    assert complaint in last
    assert list(tmp_path.iterdir()) == []
