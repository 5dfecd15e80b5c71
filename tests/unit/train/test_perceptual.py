import sys
from itertools import pairwise
from types import ModuleType

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from torch import nn

from vivavoz.errors import ConfigError, WeightsError
from vivavoz.train.perceptual import SqueezeNetDistance, choose_perceptual, gradient_ssim

h5py = pytest.importorskip("h5py")


@pytest.fixture
def pair(tmp_path):
    """SqueezeNet's two files as they are found in public, with random weights."""
    rng = np.random.default_rng(0)

    def convolution(file, name, kernel, c_in, c_out):
        last = name.rsplit("/", 1)[-1]
        file[f"{name}/{name}_1/kernel:0" if "/" in name else f"{name}/{last}_3/kernel:0"] = rng.normal(
            0, (2 / (kernel**2 * c_in)) ** 0.5, (kernel, kernel, c_in, c_out)
        ).astype(np.float32)
        file[f"{name}/{name}_1/bias:0" if "/" in name else f"{name}/{last}_3/bias:0"] = np.zeros(c_out, np.float32)

    widths = [64, 128, 128, 256, 256, 384, 384, 512, 512]
    with h5py.File(tmp_path / "squeezenet.h5", "w") as file:
        convolution(file, "conv1", 3, 3, 64)
        for number, (c_in, c_out) in enumerate(pairwise(widths), 2):
            convolution(file, f"fire{number}/squeeze1x1", 1, c_in, c_out // 8)
            convolution(file, f"fire{number}/expand1x1", 1, c_out // 8, c_out // 2)
            convolution(file, f"fire{number}/expand3x3", 3, c_out // 8, c_out // 2)
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate((64, 128, 256, 384, 384, 512, 512))}
    torch.save(heads, tmp_path / "heads.pth")
    return tmp_path / "squeezenet.h5", tmp_path / "heads.pth"


def picture():
    face = skimage.data.astronaut()[20:148, 160:288]
    return torch.from_numpy(face.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1


def blurred(sigma_px):
    image = picture()[0].permute(1, 2, 0).numpy()
    return torch.from_numpy(cv2.GaussianBlur(image, (0, 0), sigma_px)).permute(2, 0, 1)[None]


def no_lpips(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)


def test_what_is_installed_decides_and_is_called_by_its_name(monkeypatch, pair):
    no_lpips(monkeypatch)
    assert choose_perceptual().name == "gradient_ssim"
    assert choose_perceptual(pair).name == "squeezenet"
    assert "LPIPS" not in choose_perceptual(pair).description

    class Fake(nn.Module):
        def __init__(self, net, verbose):
            super().__init__()
            assert net == "vgg"

        def forward(self, pictures, truth):
            return (pictures - truth).square().mean(dim=(1, 2, 3), keepdim=True)

    package = ModuleType("lpips")
    package.LPIPS = Fake
    monkeypatch.setitem(sys.modules, "lpips", package)
    chosen = choose_perceptual(pair)
    assert chosen.name == "lpips"
    assert float(chosen.distance(picture(), picture() + 1)) == pytest.approx(1.0, rel=1e-5)

    def offline(net, verbose):
        raise OSError("no network")

    package.LPIPS = offline
    with pytest.raises(ConfigError, match="no network"):
        choose_perceptual()


@pytest.mark.parametrize("kind", ["squeezenet", "gradient_ssim"])
def test_distances_grow_with_blur_and_can_be_followed(monkeypatch, pair, kind):
    no_lpips(monkeypatch)
    perceptual = choose_perceptual(pair if kind == "squeezenet" else None)
    assert perceptual.name == kind
    distances = [float(perceptual.distance(blurred(sigma), picture())) for sigma in (0.5, 1.0, 2.0, 4.0)]
    assert 0 < distances[0] < distances[1] < distances[2] < distances[3]
    assert float(perceptual.distance(picture(), picture())) == pytest.approx(0, abs=1e-6)
    start = blurred(3.0).requires_grad_()
    loss = perceptual.distance(start, picture())
    (gradient,) = torch.autograd.grad(loss, start)
    loss, closer = loss.detach(), start.detach() - 0.2 * gradient / gradient.norm()
    assert float(perceptual.distance(closer, picture())) < float(loss)


def test_weights_lie_where_they_belong(pair):
    network = SqueezeNetDistance().load(*pair)
    with h5py.File(pair[0]) as file:
        kernel = file["conv1/conv1_3/kernel:0"][()]
        expand = file["fire7/expand3x3/fire7/expand3x3_1/kernel:0"][()]
    # The first convolution by hand: blue first, in [0, 255], without ImageNet's mean.
    pixels = (picture()[0].flip(0).permute(1, 2, 0).numpy() + 1) * 127.5 - np.array([104.006, 116.669, 122.679])
    by_hand = np.maximum(np.einsum("ijc,ijcd->d", pixels[4:7, 8:11], kernel), 0)
    values = torch.relu(network.first((picture().flip(1) + 1) * 127.5 - network.mean))[0, :, 2, 4]
    np.testing.assert_allclose(values.numpy(), by_hand, rtol=1e-3, atol=1e-2)
    assert np.array_equal(network.fires[5].expand3x3.weight.permute(2, 3, 1, 0).numpy(), expand)
    depths = [tuple(depth.shape[1:]) for depth in network.features(picture())]
    assert depths == [(64, 63, 63), (128, 31, 31), (256, 15, 15), (384, 7, 7), (384, 7, 7), (512, 7, 7), (512, 7, 7)]
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_foreign_weights_are_refused(pair, tmp_path):
    backbone, heads = pair
    (tmp_path / "text").write_text("no weights")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    for files in ((tmp_path / "text", heads), (backbone, tmp_path / "text"), (tmp_path / "empty.h5", heads)):
        with pytest.raises(WeightsError, match="SqueezeNet"):
            SqueezeNetDistance().load(*files)
    for files in ((backbone, tmp_path / "other.pth"), (tmp_path / "nowhere.h5", heads), (backbone, tmp_path / "nowhere.pth")):
        with pytest.raises(WeightsError) as caught:
            SqueezeNetDistance().load(*files)
        assert "\n" not in str(caught.value)


def test_small_pictures_are_compared_by_their_edges():
    small, other = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert 0 < float(gradient_ssim(small, other)) < 4
