import numpy as np

from vivavoz.evaluate.lips import LipSample
from vivavoz.evaluate.sheet import CURVE_HEIGHT_PX, TILE_PX, lips_sheet, moments_sheet


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


def test_moments_stand_side_by_side():
    rows = [[np.full((64, 64, 3), 60 * i + 9 * k, np.uint8) for i in range(3)] for k in range(2)]
    sheet = moments_sheet(rows, ("portrait", "2 s", "60 s"))
    assert sheet.shape == (2 * TILE_PX, 3 * TILE_PX, 3)
    assert sheet[-1, ::TILE_PX, 0].tolist() == [9, 69, 129]
