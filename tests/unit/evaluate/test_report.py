import json

import numpy as np
import pytest

from tests.models import tiny_model
from tests.unit.evaluate.material import material
from vivavoz.errors import OutputError
from vivavoz.evaluate.lips import LipSample, LipsConfig
from vivavoz.evaluate.reconstruction import ReconstructionConfig
from vivavoz.evaluate.report import EvaluationConfig, evaluate, write_report
from vivavoz.evaluate.sheet import CURVE_HEIGHT_PX, TILE_PX, lips_sheet
from vivavoz.media.image import read_image

CONFIG = EvaluationConfig(
    reconstruction=ReconstructionConfig(num_portraits=1, clips_per_portrait=1, num_frames=5, size=64, reference_counts=(0, 1)),
    lips=LipsConfig(num_pairs=1, num_frames=13),
    video_lips=False,
)


def test_report_holds_all_figures(tmp_path):
    told = []
    write_report(evaluate(tiny_model(), material(), CONFIG, told.append), tmp_path / "report")
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [(row["kind"], row["num_references"]) for row in found["reconstruction"]] == [
        ("copy", 1),
        ("encoder", 0),
        ("encoder", 1),
        ("labels", 0),
        ("labels", 1),
    ]
    assert set(found["lips"]) == {"latents", "loudness", "truth"}
    assert found["lips"]["truth"]["r"] == pytest.approx(1)
    assert found["pairs"][0]["video"] is None
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| encoder | 1 | " in text
    assert "| loudness alone | 1 | " in text
    assert read_image(tmp_path / "report" / "reconstruction.png").shape == (TILE_PX, 4 * TILE_PX, 3)
    assert told == ["reconstruction: 1/1 portraits", "lips: 1/1 pairs"]


def test_lips_sheet_draws_both_curves():
    pictures = tuple(np.full((64, 64, 3), 9 * i, np.uint8) for i in range(3))
    truth = np.linspace(0, 0.1, 20, dtype=np.float32)
    sample = LipSample(
        name="a speaks b", moments=(0, 10, 19), generated=pictures, performed=pictures, openings=truth[::-1].copy(), truth=truth
    )
    sheet = lips_sheet([sample])
    assert sheet.shape == (2 * TILE_PX + CURVE_HEIGHT_PX, 3 * TILE_PX, 3)
    curves = sheet[2 * TILE_PX :]
    red = (curves[..., 0].astype(int) - curves[..., 1] > 60).nonzero()
    left, right = red[1] < TILE_PX // 2, red[1] > 2.5 * TILE_PX
    assert red[0][left].mean() < red[0][right].mean()  # the generated curve falls


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_report(evaluate(tiny_model(), material(), CONFIG), tmp_path / "file" / "report")
