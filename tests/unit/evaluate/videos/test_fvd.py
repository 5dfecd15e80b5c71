import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from tests.unit.evaluate.videos.material import write_i3d
from vivavoz.errors import DataError, WeightsError
from vivavoz.evaluate.videos.fvd import frechet_distance, fvd, load_i3d

RNG = np.random.default_rng(0)


def covariance(size, seed):
    factor = np.random.default_rng(seed).standard_normal((size, size))
    return factor @ factor.T / size


def test_gaussians_whose_distance_is_known():
    eye = np.eye(3)
    assert frechet_distance(np.zeros(3), eye, np.array([1.0, 2, 2]), eye) == pytest.approx(9)
    # N(0, a) and N(0, b) of independent features: the sum of (sqrt a - sqrt b)^2.
    assert frechet_distance(np.zeros(2), np.diag([4.0, 9]), np.zeros(2), np.diag([1.0, 16])) == pytest.approx(1 + 1)
    same = covariance(20, 1)
    assert frechet_distance(np.ones(20), same, np.ones(20), same) == pytest.approx(0, abs=1e-9)


def test_general_gaussians_against_the_matrix_root():
    a, b, mean = covariance(30, 1), covariance(30, 2), RNG.standard_normal(30)
    expected = mean @ mean + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet_distance(mean, a, np.zeros(30), b) == pytest.approx(expected, rel=1e-9)


def test_fewer_windows_than_features_stay_finite():
    few = RNG.standard_normal((5, 400))
    assert fvd(few, few) == pytest.approx(0, abs=1e-6)
    moved = fvd(few + 0.5, few)
    assert moved == pytest.approx(400 * 0.25, rel=1e-6)


def test_samples_approach_their_gaussians():
    ours = RNG.standard_normal((20_000, 4)) * 2 + 1
    theirs = RNG.standard_normal((20_000, 4))
    assert fvd(ours, theirs) == pytest.approx(4 * (1 + 1), rel=0.05)


def test_covariance_is_over_n():
    ours = np.array([[0.0], [2.0]])  # variance 1 over n, 2 over n - 1
    assert fvd(ours, np.array([[1.0], [1.0]])) == pytest.approx(1)


def test_windows_of_25_pictures_through_the_network(tmp_path):
    network = write_i3d(tmp_path / "i3d.pt")
    features = load_i3d(tmp_path / "i3d.pt")
    frames = RNG.integers(0, 256, (60, 48, 40, 3), dtype=np.uint8)
    found = features(frames)
    assert found.shape == (2, 400)
    video = torch.from_numpy(frames[25:50]).permute(3, 0, 1, 2)[None].float()
    expected = network(video, rescale=True, resize=True, return_features=True)
    np.testing.assert_allclose(found[1], expected[0].numpy(), rtol=1e-5)
    assert features(frames[:24]).shape == (0, 400)


def test_what_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(DataError, match="1 and 3 windows"):
        fvd(np.zeros((1, 4)), np.zeros((3, 4)))
    (tmp_path / "i3d.pt").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="i3d_torchscript"):
        load_i3d(tmp_path / "i3d.pt")
    torch.jit.script(torch.nn.Identity()).save(str(tmp_path / "identity.pt"))
    with pytest.raises(WeightsError, match="i3d_torchscript"):
        load_i3d(tmp_path / "identity.pt")
