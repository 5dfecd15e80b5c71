import cv2
import numpy as np
import pytest
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tests.unit.evaluate.material import drawn_portrait
from vivavoz.evaluate.fidelity import compare, mouth_region, pooled, to_video
from vivavoz.rig.landmarks import INNER_LIPS
from vivavoz.train.perceptual import choose_perceptual


def test_a_known_error_in_the_mouth_alone():
    truth = np.full((3, 32, 32, 3), 100, np.uint8)
    mouth = np.zeros((3, 32, 32), np.uint8)
    mouth[:, :16] = 1
    pictures = truth.copy()
    pictures[:, :16] = 151  # 51 of 255: 14 dB below
    found = compare(pictures, truth, mouth, choose_perceptual())
    assert found.mouth_psnr_db == pytest.approx(13.979, abs=1e-2)
    assert found.psnr_db == pytest.approx(13.979 + 3.0103, abs=1e-2)
    assert found.perceptual > 0
    assert compare(truth, truth, mouth, choose_perceptual()).perceptual == pytest.approx(0, abs=1e-6)


def test_reported_fidelity_is_the_published_one():
    truth = cv2.resize(astronaut()[:400, :400], (96, 96), interpolation=cv2.INTER_AREA)[None].repeat(17, 0)
    noise = np.random.default_rng(0).normal(0, 12, truth.shape)
    pictures = np.clip(truth * 0.8 + noise, 0, 255).astype(np.uint8)  # darker too: SSIM compares means
    found = compare(pictures, truth, np.ones(truth.shape[:3], np.uint8), choose_perceptual())
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "channel_axis": 2}
    pairs = list(zip(truth, pictures, strict=True))
    assert found.ssim == pytest.approx(np.mean([structural_similarity(a, b, **options) for a, b in pairs]), abs=1e-4)
    assert found.psnr_db == pytest.approx(np.mean([peak_signal_noise_ratio(a, b) for a, b in pairs]), abs=1e-3)
    assert found.l1 == pytest.approx(np.abs(pictures / 255 - truth / 255).mean(), abs=1e-5)


def test_equal_pictures_leave_means_finite():
    truth, mouth = np.full((3, 32, 32, 3), 100, np.uint8), np.ones((3, 32, 32), np.uint8)
    found = compare(truth, truth, mouth, choose_perceptual())
    assert (found.l1, found.psnr_db, found.mouth_psnr_db) == (0, 100, 100)
    assert found.ssim == pytest.approx(1)


def test_clips_count_by_their_pictures():
    truth, mouth = np.full((4, 32, 32, 3), 100, np.uint8), np.ones((4, 32, 32), np.uint8)
    off = [compare(truth[:n] + np.uint8(add), truth[:n], mouth[:n], choose_perceptual()) for n, add in ((1, 51), (3, 5))]
    both = pooled(off)
    assert both.num_frames == 4
    assert both.psnr_db == pytest.approx((off[0].psnr_db + 3 * off[1].psnr_db) / 4)


def test_mouth_region_surrounds_the_lips():
    points = drawn_portrait().landmarks[:, :2]
    region = mouth_region(points, 512)
    inside = np.round(points[list(INNER_LIPS)]).astype(int)
    assert region[inside[:, 1], inside[:, 0]].all()
    assert 0.002 < region.mean() < 0.05


def test_video_spans_the_range():
    images = np.array([0, 255], np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    video = to_video(images)
    assert video.shape == (1, 3, 2, 8, 8)
    assert video[:, :, 0].unique().tolist() == [-1]
    assert video[:, :, 1].unique().tolist() == [1]
