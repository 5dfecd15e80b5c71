from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.train.material import portraits, write_material
from vivavoz.errors import ConfigError, DataError
from vivavoz.rig.finder import LIPS, LandmarkFinder
from vivavoz.train.landmark_training import (
    FaceReading,
    LandmarkTraining,
    MouthReading,
    PosedFaces,
    face_cuts,
    landmark_training,
    mouth_cuts,
    train_landmarks,
)
from vivavoz.train.loop import LoopConfig, train
from vivavoz.train.rig_deck import DeckConfig

SETTINGS = LandmarkTraining(
    loop=LoopConfig(num_steps=3, learning_rate=1e-3, warmup_steps=1, log_every_steps=1),
    batch_size=3,
    pictures_per_deal=4,
    num_render_processes=0,
    deck=DeckConfig(num_rigs=2, batches_per_deal=2),
)


def faces(**changes: object) -> PosedFaces:
    return PosedFaces(portraits(), replace(SETTINGS, **changes))  # type: ignore[arg-type]


def test_batches_are_a_function_of_their_number() -> None:
    one, again, other = faces()[3], faces()[3], faces()[2]
    assert one.pictures.shape == (3, 512, 512, 3)
    assert one.points.shape == (3, 478, 3)
    assert torch.equal(one.pictures, again.pictures)
    assert torch.equal(one.points, again.points)
    assert not torch.equal(one.points, other.points)


@pytest.mark.parametrize("kind", ["face", "mouth"])
def test_points_stay_on_their_pixels_however_a_picture_is_moved(kind: str) -> None:
    batch = faces()[0]
    point = 291  # the lips' right corner, the left one in a mirrored picture
    for picture, points in zip(batch.pictures, batch.points, strict=True):
        picture.zero_()
        x, y = (int(value) for value in points[point, :2] * 512)
        picture[y - 4 : y + 5, x - 4 : x + 5] = 255
    for seed in range(6):
        rng = torch.Generator().manual_seed(seed)
        cuts, places = face_cuts(batch, rng) if kind == "face" else mouth_cuts(batch, rng)
        for shown, where in zip(cuts, places, strict=True):
            height, width = shown.shape[1:]
            weight = shown[0].clamp(min=-1) + 1
            rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
            seen = torch.stack([(weight * columns).sum() / width, (weight * rows).sum() / height]) / weight.sum()
            if kind == "mouth":
                seen = 2 * seen - 1
            corners = [61, 291] if kind == "face" else [LIPS.index(61), LIPS.index(291)]
            assert min(float((where[corner, :2] - seen).abs().max()) for corner in corners) < 0.02


@pytest.mark.parametrize("kind", [FaceReading, MouthReading])
def test_it_learns_where_points_are(kind: type[FaceReading] | type[MouthReading], tmp_path: Path) -> None:
    torch.manual_seed(0)
    finder, lines = LandmarkFinder(), []
    reading = kind(finder.face if kind is FaceReading else finder.mouth)
    loop = LoopConfig(num_steps=28, learning_rate=2e-3, warmup_steps=1, log_every_steps=4)
    train(reading, faces().batches(), loop, tmp_path, report=lines.append)
    totals = [sum(value for name, value in line.items() if name in ("points", "lips", "gap")) for line in lines]
    assert totals[-1] < 0.6 * totals[0]


def test_a_run_writes_a_finder_and_goes_on_where_it_was(tmp_path: Path) -> None:
    write_material(tmp_path / "faces", tmp_path / "speech", tmp_path / "out" / "corpus")
    phases = []
    path = train_landmarks(tmp_path / "faces", tmp_path / "out", SETTINGS, report=lambda news: phases.append(news))
    assert {news.phase for news in phases} == {"face", "mouth"}
    LandmarkFinder().load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    before = path.read_bytes()
    path.unlink()
    phases.clear()
    assert train_landmarks(tmp_path / "faces", tmp_path / "out", SETTINGS, report=phases.append).read_bytes() == before
    assert not phases
    with pytest.raises(DataError, match="another recipe"):
        train_landmarks(tmp_path / "faces", tmp_path / "out", replace(SETTINGS, batch_size=2))


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_no_time_is_refused(minutes: float) -> None:
    with pytest.raises(ConfigError, match="minutes of training, expected more than 0"):
        landmark_training(minutes)
