"""How different two pictures look: the second term of the VAE's loss (paper, equation 2).

The paper's is LPIPS. Where its package is not installed, the same comparison on SqueezeNet's features stands in, and where there
are no weights for that either, differences of edges and structure. Each has a name of its own, under which the loss is logged.

Shapes: N pictures, C channels, H W size; pictures are RGB in [-1, 1].
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.errors import ConfigError, WeightsError
from vivavoz.evaluate.metrics import SSIM_WINDOW_PX, ssim
from vivavoz.train.losses import gradient_l1

_MEAN = (104.006, 116.669, 122.679)
"""Of ImageNet's pictures in [0, 255], blue first: what these weights, once Caffe's, expect to be taken off."""
_SQUEEZES = (16, 16, 32, 32, 48, 48, 64, 64)
"""Channels that SqueezeNet 1.1's fire modules squeeze to; each then expands to eight times as many."""
_POOLED_BEFORE = (2, 4, 6)
"""The numbers of the fire modules with a pooling before them."""
_TAPPED = (3, 5, 6, 7, 8, 9)
"""The numbers of the fire modules after which features are compared, beside those after the first convolution."""


@dataclass(frozen=True, slots=True)
class Perceptual:
    """A distance of pictures."""

    name: str
    """`lpips`, `squeezenet` or `gradient_ssim`: the loss's name in the log."""
    description: str
    """In a few words."""
    distance: Callable[[Tensor, Tensor], Tensor]
    """Pictures and truth, each (N, 3, H, W) in [-1, 1], to the mean distance."""


def choose_perceptual(squeezenet: tuple[Path, Path] | None = None, device: torch.device | str = "cpu") -> Perceptual:
    """LPIPS where its package is installed; else on SqueezeNet's features where weights are given; else without a network.

    Args:
        squeezenet: ImageNet weights of SqueezeNet 1.1 without its classifier (Keras layout, .h5) and LPIPS's heads for it (.pth).
        device: where to compute.

    Raises:
        ConfigError: LPIPS is installed but its backbone cannot be had, or h5py is missing.
        WeightsError: weights that cannot be read or are of another network.
    """
    try:
        import lpips
    except ImportError:
        pass
    else:
        try:
            network = lpips.LPIPS(net="vgg", verbose=False).requires_grad_(False).eval().to(device)
        except (OSError, ImportError, RuntimeError) as error:
            raise ConfigError(f"LPIPS is installed but cannot load VGG ({error}); mend it, or uninstall lpips") from error
        return Perceptual("lpips", "LPIPS (VGG)", lambda pictures, truth: network(pictures, truth).mean())
    if squeezenet is not None:
        distance = SqueezeNetDistance().load(*squeezenet).to(device)
        return Perceptual("squeezenet", "SqueezeNet perceptual distance", lambda *both: distance(*both).mean())
    return Perceptual("gradient_ssim", "gradients over scales and SSIM, as neither LPIPS nor SqueezeNet is here", gradient_ssim)


def gradient_ssim(pictures: Tensor, truth: Tensor) -> Tensor:
    """Half the differences of edges over three scales and half of what structural similarity lacks to 1."""
    everywhere = torch.ones_like(truth[:, :1, None])
    edges = gradient_l1(pictures.unsqueeze(2), truth.unsqueeze(2), everywhere)
    if min(truth.shape[-2:]) < SSIM_WINDOW_PX:
        return edges
    # As if grey were black, other than published: what has been trained with it was trained so.
    return 0.5 * edges + 0.5 * (1 - ssim(pictures, truth, levels=(0.0, 2.0)).mean())


class SqueezeNetDistance(nn.Module):
    """Weighted squared distance of normalised SqueezeNet 1.1 features at seven depths, the way LPIPS is made.

    The backbone's weights are not those that LPIPS's heads were fitted to, so its numbers are not LPIPS's.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, stride=2)
        widths = (64, *(8 * width for width in _SQUEEZES))
        self.fires = nn.ModuleList(_Fire(c_in, squeezed) for c_in, squeezed in zip(widths, _SQUEEZES, strict=False))
        depths = [64, *(8 * _SQUEEZES[number - 2] for number in _TAPPED)]
        self.heads = nn.ParameterList(torch.ones(depth) for depth in depths)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def load(self, backbone: Path, heads: Path) -> SqueezeNetDistance:
        """Read the weights in place. Raises as `choose_perceptual` does."""
        stored = _read_keras(backbone)
        names = {"first": "conv1"}
        for number in range(2, 10):
            names |= {f"fires.{number - 2}.{part}": f"fire{number}/{part}" for part in ("squeeze1x1", "expand1x1", "expand3x3")}
        try:
            weights = {}
            for own, theirs in names.items():
                weights[f"{own}.weight"] = stored[f"{theirs}/kernel"].permute(3, 2, 0, 1).contiguous()
                weights[f"{own}.bias"] = stored[f"{theirs}/bias"]
            linear = torch.load(heads, map_location="cpu", weights_only=True)
            weights |= {f"heads.{index}": linear[f"lin{index}.model.1.weight"].flatten() for index in range(len(self.heads))}
            self.load_state_dict(weights)
        except (KeyError, RuntimeError, OSError, EOFError, TypeError, AttributeError, pickle.UnpicklingError) as error:
            raise WeightsError(
                f"{backbone} and {heads} cannot be used ({' '.join(str(error).split())[:120]}); expected SqueezeNet 1.1 as "
                "Keras stores it, and LPIPS's heads for squeeze"
            ) from error
        return self

    def features(self, pictures: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> seven depths, each normalised over its channels."""
        x = torch.relu(self.first((pictures.flip(1) + 1) * 127.5 - self.mean))
        found = [x]
        for number, fire in enumerate(self.fires, 2):
            if number in _POOLED_BEFORE:
                x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
            x = fire(x)
            if number in _TAPPED:
                found.append(x)
        return [x / (x.square().sum(dim=1, keepdim=True) + 1e-10).sqrt() for x in found]

    def forward(self, pictures: Tensor, truth: Tensor) -> Tensor:
        """(N, 3, H, W) twice -> (N,)."""
        total = pictures.new_zeros(len(pictures))
        for head, one, other in zip(self.heads, self.features(pictures), self.features(truth), strict=True):
            total = total + ((one - other).square() * head[:, None, None]).sum(dim=1).mean(dim=(1, 2))
        return total


class _Fire(nn.Module):
    def __init__(self, c_in: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(c_in, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, 4 * squeezed, 1)
        self.expand3x3 = nn.Conv2d(squeezed, 4 * squeezed, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze1x1(x))
        return torch.cat([torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))], dim=1)


def _read_keras(path: Path) -> dict[str, Tensor]:
    """Tensors of a Keras file as `layer/kernel` and `layer/bias`, without the repeated name of the layer."""
    try:
        import h5py
    except ImportError as error:
        raise ConfigError("got no h5py, expected it to read SqueezeNet: pip install 'vivavoz[train]'") from error
    found: dict[str, Tensor] = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            *layer, _, leaf = name.split("/")
            half = layer[: (len(layer) + 1) // 2]
            found["/".join(half) + "/" + leaf.partition(":")[0]] = torch.from_numpy(item[()])

    try:
        with h5py.File(path) as file:
            file.visititems(take)
    except OSError as error:
        raise WeightsError(f"{path} is missing or not an HDF5 file ({error}); give SqueezeNet's weights") from error
    return found
