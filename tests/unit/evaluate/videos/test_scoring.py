from dataclasses import replace

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from tests.unit.evaluate.videos.material import talking_clip, write_face_network, write_i3d
from vivavoz.errors import ConfigError, DataError, WeightsError
from vivavoz.evaluate.videos.judges import FETCH, SHIPPED_CAPP, SHIPPED_SYNC, JudgePaths, Judges, load_judges, paths_from
from vivavoz.evaluate.videos.scoring import METRICS, fidelity, score_against, score_alone, summarise_scores, video_distance
from vivavoz.train.perceptual import Perceptual

RNG = np.random.default_rng(0)


def test_fidelity_is_that_of_the_definitions():
    truth = RNG.integers(60, 200, (3, 48, 40, 3), dtype=np.uint8)
    ours = np.clip(truth + RNG.normal(0, 12, truth.shape), 0, 255).astype(np.uint8)
    found = fidelity(ours, truth, Judges())
    assert set(found) == {"l1", "psnr_db", "ssim"}  # no perceptual distance without a network
    apart = ours.astype(float) - truth
    assert found["l1"] == pytest.approx(np.abs(apart).mean() / 255, rel=1e-5)
    assert found["psnr_db"] == pytest.approx(np.mean([10 * np.log10(255**2 / (one**2).mean()) for one in apart]), rel=1e-5)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    windows = [
        structural_similarity(a[..., c].astype(float), b[..., c].astype(float), full=True, **options)[1][5:-5, 5:-5].mean()
        for a, b in zip(ours, truth, strict=True)
        for c in range(3)
    ]
    assert found["ssim"] == pytest.approx(np.mean(windows), abs=1e-4)


def test_equal_pictures_are_perfect_and_means_stay_finite():
    truth = RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = fidelity(truth, truth, Judges())
    assert found == {"l1": 0, "psnr_db": 100, "ssim": pytest.approx(1)}
    with pytest.raises(DataError, match="equal shapes"):
        fidelity(truth, truth[:, :16], Judges())


def test_the_perceptual_distance_keeps_its_own_name():
    constant = Perceptual("squeezenet", "a stand-in", lambda ours, truth: (ours - truth).abs().mean())
    truth = np.full((2, 32, 32, 3), 100, np.uint8)
    found = fidelity(truth + 51, truth, Judges(perceptual=constant))
    assert found["squeezenet"] == pytest.approx(0.4)
    assert "lpips" not in found


def test_a_clip_against_itself():
    swinging = 0.05 * (1 + np.sin(np.arange(40)))
    swinging[10:13] = 0
    clip = talking_clip(40, open_by=swinging)
    found = score_against(clip, clip, Judges()).scores
    assert found["lip_r"] == pytest.approx(1)
    assert found["closures"] == 1
    assert found["background_drift"] == 0
    assert found["blinks_per_minute"] == 0
    assert found["psnr_db"] == 100
    late = talking_clip(40, open_by=np.roll(swinging, 3))
    assert score_against(late, clip, Judges()).scores["lip_r"] < 0.2


def test_judges_that_are_there_score_and_failures_are_told(tmp_path):
    write_i3d(tmp_path / "i3d.pt")
    write_face_network(tmp_path / "face.onnx")
    judges = load_judges(JudgePaths(i3d=tmp_path / "i3d.pt", face_recognition=tmp_path / "face.onnx"))
    clip = talking_clip(52)
    found = score_against(clip, clip, judges)
    assert found.features.shape == (2, 400)
    assert found.scores["identity"] == pytest.approx(1, abs=1e-5)
    blind = score_alone(replace(clip, landmarks=None), judges)
    assert "blinks_per_minute" not in blind.scores
    assert len(blind.failures) == 1
    assert "no landmarks" in blind.failures[0]


def test_means_and_the_distance_of_sets():
    rows = [{"l1": 0.1, "sync_offset_frames": 0}, {"l1": 0.3, "sync_offset_frames": 9}, {"sync_offset_frames": 1}]
    assert summarise_scores(rows) == {"l1": pytest.approx(0.2), "sync_offset_frames": 1}
    features = RNG.standard_normal((6, 400)).astype(np.float32)
    assert video_distance([features[:3], None, features[3:]], [features])["fvd25"] == pytest.approx(0, abs=1e-4)
    assert video_distance([features + 1], [features])["fvd25"] == pytest.approx(400, rel=1e-4)
    assert video_distance([None], [features]) == {}


def test_what_is_missing_says_what_to_fetch():
    judges = load_judges(JudgePaths())
    assert judges.syncnet is None
    assert judges.i3d is None
    assert {FETCH[name] for name in ("syncnet", "i3d", "face_recognition", "capp", "sync")} <= set(judges.skipped)
    assert any("syncnet_v2.model" in line for line in judges.skipped)


def test_a_wrong_path_is_an_error_not_a_gap(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.model \(syncnet\) is no file"):
        load_judges(JudgePaths(syncnet=tmp_path / "nowhere.model"))
    (tmp_path / "squeeze.h5").write_bytes(b"")
    with pytest.raises(ConfigError, match="expected both"):
        load_judges(JudgePaths(squeezenet=tmp_path / "squeeze.h5"))


def test_options_go_before_the_environment(tmp_path):
    environment = {"VIVAVOZ_SYNCNET": "/env/syncnet", "VIVAVOZ_I3D": "/env/i3d", "VIVAVOZ_CAPP": ""}
    paths = paths_from({"syncnet": tmp_path / "mine", "i3d": None}, environment)
    assert paths.syncnet == tmp_path / "mine"
    assert str(paths.i3d) == "/env/i3d"
    assert paths.capp == SHIPPED_CAPP
    assert paths.squeezenet is None
    assert paths_from({"sync": tmp_path / "mine"}, {"VIVAVOZ_SYNC": "/env/sync"}).sync == tmp_path / "mine"
    assert str(paths_from({}, {"VIVAVOZ_SYNC": "/env/sync"}).sync) == "/env/sync"
    assert paths_from({}, {}).sync == SHIPPED_SYNC


def test_weights_are_named_in_reports(tmp_path):
    write_i3d(tmp_path / "i3d.pt")
    first = load_judges(JudgePaths(i3d=tmp_path / "i3d.pt")).weights["i3d"]
    assert first.startswith("i3d.pt ")
    assert len(METRICS) == len({metric.label for metric in METRICS.values()})
