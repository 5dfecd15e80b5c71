"""Inputs for the VAE's tests."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vivavoz.vae.config import VAEConfig
from vivavoz.vae.vae import VAE


def make_vae(config: VAEConfig, seed: int = 0) -> VAE:
    """A VAE whose every parameter matters: what starts at zero or one is moved."""
    torch.manual_seed(seed)
    vae = VAE(config).eval()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) if parameter.ndim == 1 else 0.02 * torch.randn_like(parameter))
    return vae


def smooth(*shape: int, seed: int = 0) -> Tensor:
    """Random pictures (..., H, W) in [-1, 1] without hard edges, so that warping them amplifies no rounding."""
    *outer, height, width = shape
    coarse = 2 * torch.rand(1, max(1, int(torch.tensor(outer).prod())), 4, 4, generator=torch.Generator().manual_seed(seed)) - 1
    return interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False).reshape(shape).clamp(-1, 1)


def video(batch_size: int, num_frames: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    """(B, 3, T, H, W)."""
    return smooth(batch_size, 3, num_frames, height, width, seed=seed)


def portraits(batch_size: int, num_references: int, height: int = 64, width: int = 64, seed: int = 1) -> Tensor:
    """(B, M, 3, H, W)."""
    if num_references == 0:
        return torch.zeros(batch_size, 0, 3, height, width)
    return smooth(batch_size, num_references, 3, height, width, seed=seed)
