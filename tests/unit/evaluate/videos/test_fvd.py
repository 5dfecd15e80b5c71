import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from tests.unit.evaluate.videos.material import write_i3d
from vivavoz.errors import DataError, WeightsError
from vivavoz.evaluate.videos.fvd import frechet_distance, load_i3d

RNG = np.random.default_rng(0)


def sample(mean, covariance, num_rows=60):
    """Features (n, D) with exactly these moments, over n."""
    noise = RNG.standard_normal((num_rows, len(mean)))
    noise -= noise.mean(axis=0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(noise.T @ noise / num_rows)).T
    return white @ np.linalg.cholesky(covariance).T + mean


def covariance(size, seed):
    factor = np.random.default_rng(seed).standard_normal((size, size))
    return factor @ factor.T / size


def test_gaussians_whose_distance_is_known():
    eye = np.eye(3)
    assert frechet_distance(sample(np.zeros(3), eye), sample(np.array([1.0, 2, 2]), eye, 40)) == pytest.approx(9)
    # N(0, a) and N(0, b) of independent features: the sum of (sqrt a - sqrt b)^2.
    ours, theirs = sample(np.zeros(2), np.diag([4.0, 9])), sample(np.zeros(2), np.diag([1.0, 16]))
    assert frechet_distance(ours, theirs) == pytest.approx(1 + 1)
    same = sample(np.ones(20), covariance(20, 1))
    assert frechet_distance(same, same) == pytest.approx(0, abs=1e-9)


def test_general_gaussians_against_the_matrix_root():
    a, b, mean = covariance(30, 1), covariance(30, 2), RNG.standard_normal(30)
    expected = mean @ mean + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet_distance(sample(mean, a, 90), sample(np.zeros(30), b, 70)) == pytest.approx(expected, rel=1e-8)


def test_fewer_windows_than_features_do_no_harm():
    few = RNG.standard_normal((5, 400))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(few + 0.5, few) == pytest.approx(400 * 0.25)
    # Few and many rows of features that have one direction only.
    line = np.outer(np.arange(4.0), np.ones(3))  # variance 1.25 along (1, 1, 1)
    assert frechet_distance(2 * line, np.repeat(line, 5, axis=0)) == pytest.approx(3 * (1.5**2 + 1.25))


def test_covariance_is_over_n():
    ours = np.array([[0.0], [2.0]])  # variance 1 over n, 2 over n - 1
    assert frechet_distance(ours, np.array([[1.0], [1.0]])) == pytest.approx(1)


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
        frechet_distance(np.zeros((1, 4)), np.zeros((3, 4)))
    (tmp_path / "i3d.pt").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="i3d_torchscript"):
        load_i3d(tmp_path / "i3d.pt")
    torch.jit.script(torch.nn.Identity()).save(str(tmp_path / "identity.pt"))
    with pytest.raises(WeightsError, match="i3d_torchscript"):
        load_i3d(tmp_path / "identity.pt")
