from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.unit.evaluate.videos.material import talking_clip
from vivavoz.errors import DataError, WeightsError
from vivavoz.evaluate.videos.syncnet import SyncNet, face_crops, load_syncnet

# Keys and shapes of the weights in syncnet_v2.model: convolutions by place in their tower, (out, in, kernel).
SOUND = {
    0: (64, 1, 3, 3),
    4: (192, 64, 3, 3),
    8: (384, 192, 3, 3),
    11: (256, 384, 3, 3),
    14: (256, 256, 3, 3),
    18: (512, 256, 5, 4),
}
LIPS = {
    0: (96, 3, 5, 7, 7),
    4: (256, 96, 1, 5, 5),
    8: (256, 256, 1, 3, 3),
    11: (256, 256, 1, 3, 3),
    14: (256, 256, 1, 3, 3),
    18: (512, 256, 1, 6, 6),
}


def public_weights(seed=0):
    rng = torch.Generator().manual_seed(seed)
    weights = {}

    def layer(name, norm, shape):
        weights[f"{name}.weight"] = torch.randn(shape, generator=rng) / (torch.tensor(shape[1:]).prod() ** 0.5)
        weights[f"{name}.bias"] = torch.randn(shape[0], generator=rng) * 0.1
        if norm:
            weights[f"{norm}.weight"] = torch.rand(shape[0], generator=rng) + 0.5
            weights[f"{norm}.bias"] = torch.randn(shape[0], generator=rng) * 0.1
            weights[f"{norm}.running_mean"] = torch.randn(shape[0], generator=rng) * 0.1
            weights[f"{norm}.running_var"] = torch.rand(shape[0], generator=rng) + 0.5
            weights[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    for tower, places in (("netcnnaud", SOUND), ("netcnnlip", LIPS)):
        for place, shape in places.items():
            layer(f"{tower}.{place}", f"{tower}.{place + 1}", shape)
    for head in ("netfcaud", "netfclip"):
        layer(f"{head}.0", f"{head}.1", (512, 512))
        layer(f"{head}.3", None, (1024, 512))
    return weights


def by_hand(weights, tower, x, plan, convolve, pool):
    """The published layers one after another: convolution, normalisation with the stored moments, ReLU, pooling."""
    for place, settings, pooling in plan:
        x = convolve(x, weights[f"{tower}.{place}.weight"], weights[f"{tower}.{place}.bias"], **settings)
        norm = f"{tower}.{place + 1}"
        moments = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        x = torch.relu(F.batch_norm(x, *moments, weights[f"{norm}.weight"], weights[f"{norm}.bias"]))
        if pooling:
            x = pool(x, **pooling)
    head = tower.replace("cnn", "fc")
    x = F.linear(x.flatten(1), weights[f"{head}.0.weight"], weights[f"{head}.0.bias"])
    x = F.batch_norm(
        x,
        *(weights[f"{head}.1.running_{one}"] for one in ("mean", "var")),
        weights[f"{head}.1.weight"],
        weights[f"{head}.1.bias"],
    )
    return F.linear(torch.relu(x), weights[f"{head}.3.weight"], weights[f"{head}.3.bias"])


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("syncnet") / "syncnet_v2.model"
    torch.save(public_weights(), path)
    return load_syncnet(path)


@torch.inference_mode()
def test_public_weights_give_the_published_network(network):
    weights = public_weights()
    sound = torch.randn(2, 1, 13, 20)
    plan = [
        (0, {"padding": 1}, {}),
        (4, {"padding": 1}, {"kernel_size": 3, "stride": (1, 2)}),
        (8, {"padding": 1}, {}),
        (11, {"padding": 1}, {}),
        (14, {"padding": 1}, {"kernel_size": 3, "stride": 2}),
        (18, {}, {}),
    ]
    torch.testing.assert_close(network.hear(sound), by_hand(weights, "netcnnaud", sound, plan, F.conv2d, F.max_pool2d))
    pictures = torch.rand(1, 3, 5, 224, 224) * 255
    same, half = {"padding": (0, 1, 1)}, {"kernel_size": (1, 3, 3), "stride": (1, 2, 2)}
    plan = [
        (0, {"stride": (1, 2, 2)}, half),
        (4, {"stride": (1, 2, 2), **same}, {**half, **same}),
        (8, same, {}),
        (11, same, {}),
        (14, same, half),
        (18, {}, {}),
    ]
    torch.testing.assert_close(network.see(pictures), by_hand(weights, "netcnnlip", pictures, plan, F.conv3d, F.max_pool3d))


def test_a_clip_is_scored_window_by_window(network):
    clip = talking_clip(15)
    found = network.score(clip)
    assert -15 <= found.offset_frames <= 15
    assert found.distance > 0
    assert found.confidence >= 0
    assert network.score(clip) == found
    with pytest.raises(DataError, match="12 pictures with sound"):
        network.score(clip.cut(12))
    with pytest.raises(DataError, match="no landmarks"):
        network.score(replace(clip, landmarks=None))


def test_faces_are_cut_as_published():
    clip = talking_clip(14)
    left, top, right, bottom = clip.face_boxes()[0]
    half = max(right - left, bottom - top) / 2
    crops = face_crops(clip)
    assert crops.shape == (14, 224, 224, 3)
    assert crops.dtype == np.uint8
    # The face's box begins at the crop's upper edge and ends 2 / 2.8 of the way down; the crop's right and left are equally far.
    middle = crops[7]
    share = 2 * half / (2 * half + 0.8 * half)
    chin_row = round(share * 224)
    assert chin_row == 160
    source_column = int((left + right) / 2)
    lips = clip.points()[7, 13, :2]
    row = round((lips[1] - ((top + bottom) / 2 - half)) / (2.8 * half) * 224)
    expected = clip.frames[7, round(float(lips[1])), source_column][::-1].astype(int)  # blue first
    assert np.abs(middle[row, 112].astype(int) - expected).max() < 25


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.model"
    with pytest.raises(WeightsError, match="expected syncnet_v2"):
        load_syncnet(path)
    weights = public_weights()
    del weights["netfcaud.0.weight"]
    torch.save(weights, path)
    with pytest.raises(WeightsError, match="netfcaud"):
        load_syncnet(path)
    assert len(SyncNet().state_dict()) == len(public_weights())
