import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vivavoz.evaluate.metrics import best_lag, pearson, psnr, ssim


def noisy_pair(seed=0, size=(40, 32)):
    rng = np.random.default_rng(seed)
    truth = rng.random((2, 3, *size)).cumsum(-1) / size[-1]
    return torch.from_numpy(np.clip(truth + 0.05 * rng.standard_normal(truth.shape), 0, 1)).float(), torch.from_numpy(
        truth
    ).float()


def test_psnr_of_a_known_error():
    truth = torch.zeros(2, 3, 8, 8)
    picture = truth.clone()
    picture[1] = 0.2
    values = psnr(picture, truth, data_range=2.0)
    assert math.isinf(values[0])
    assert values[1] == pytest.approx(20.0, abs=1e-4)


def test_psnr_and_ssim_agree_with_scikit_image():
    pictures, truth = noisy_pair()
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    for n in range(2):
        a, b = (x[n].permute(1, 2, 0).numpy().astype(np.float64) for x in (pictures, truth))
        assert psnr(pictures, truth, data_range=1.0)[n] == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1.0), abs=1e-4)
        expected = structural_similarity(b, a, data_range=1.0, **options)
        assert ssim(pictures, truth, levels=(0, 1))[n] == pytest.approx(expected, abs=1e-5)
        assert ssim(2 * pictures - 1, 2 * truth - 1)[n] == pytest.approx(expected, abs=1e-5)  # as models have them


def test_ssim_of_equal_pictures_is_one_whatever_the_range():
    _, truth = noisy_pair()
    assert torch.allclose(ssim(truth, truth), torch.ones(2))
    assert torch.allclose(ssim(truth * 255, truth * 255, levels=(0, 255)), torch.ones(2))


def test_psnr_counts_only_the_region():
    truth = torch.zeros(2, 3, 8, 8)
    picture = truth.clone()
    picture[:, :, :4] = 0.2
    picture[:, :, 4:] = 1.0
    region = torch.zeros(2, 8, 8)
    region[0, :4] = 1
    values = psnr(picture, truth, region=region)
    assert values[0] == pytest.approx(20.0, abs=1e-4)
    assert math.isnan(values[1])
    assert psnr(picture, truth, region=torch.ones(2, 8, 8))[0] == pytest.approx(float(psnr(picture, truth)[0]))


def test_pearson():
    x = np.random.default_rng(0).standard_normal(50)
    y = x + np.random.default_rng(1).standard_normal(50)
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert pearson(x, 3 - 2 * x) == pytest.approx(-1)
    assert math.isnan(pearson(x, np.ones(50)))
    assert math.isnan(pearson([1.0], [1.0]))
    with pytest.raises(ValueError, match="one length"):
        pearson(x, y[1:])


@pytest.mark.parametrize("lag", [-3, 0, 2])
def test_best_lag_is_positive_for_a_late_track(lag):
    truth = np.random.default_rng(0).standard_normal(80)
    late = np.roll(truth, lag)
    found, r = best_lag(late, truth)
    assert found == lag
    assert r == pytest.approx(1)


def test_a_still_track_has_no_lag():
    lag, r = best_lag(np.zeros(20), np.arange(20.0))
    assert lag == 0
    assert math.isnan(r)
