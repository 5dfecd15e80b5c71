"""Losses of the VAE's training: weighted L1, image gradients over scales, and the aids for the reference warp.

Shapes: B batch, T frames, H W the pictures' size, h w the warp fields' size.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoz.vae.warp import WarpFields, resize_frames, sample_photos

_MOUTH_PLACE = (0.0, 0.48)
_MOUTH_REACH = (0.42, 0.18)
"""Where the mouth lies on the mean face, and how far it reaches to each side, as `RenderedFrame.uv` counts."""
_MOUTH_WEIGHT = 4.0


def weighted_l1(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error of (B, 3, T, H, W), every pixel counted `weight` (B, 1, T, H, W) times."""
    return ((prediction - target).abs() * weight).sum() / (weight.sum() * prediction.shape[1])


def gradient_l1(prediction: Tensor, target: Tensor, weight: Tensor, num_scales: int = 3) -> Tensor:
    """Mean absolute error of the horizontal and vertical differences, over a pyramid of halved sizes: edges, not just levels."""
    loss = prediction.new_zeros(())
    error = (prediction - target).flatten(1, 2)
    weight = weight.flatten(1, 2)
    channels = error.shape[1] // weight.shape[1]
    for scale in range(num_scales):
        if scale:
            error, weight = F.avg_pool2d(error, 2), F.avg_pool2d(weight, 2)
        weights = weight.repeat(1, channels, 1, 1)
        loss = loss + ((error[..., 1:] - error[..., :-1]).abs() * weights[..., 1:]).sum() / weights.sum()
        loss = loss + ((error[..., 1:, :] - error[..., :-1, :]).abs() * weights[..., 1:, :]).sum() / weights.sum()
    return loss / num_scales


def flow_error(fields: WarpFields, flow: Tensor, weight: Tensor) -> Tensor:
    """Distance in field cells between the flows and the true ones (B, M, 2, T, h, w), weighted (B, M or 1, T, h, w)."""
    cells = flow.shape[-1] / 2
    error = ((fields.flow - flow) * cells).abs().sum(dim=2)
    return (error * weight).sum() / weight.expand_as(error).sum()


def place_error(prediction: Tensor, uv: Tensor) -> Tensor:
    """How badly places on the mean face are told from a reference's features: (R, 3, h, w) against `RenderedFrame.uv`.

    Mean distance of x and y on the face, the mouth counting more, and the cross-entropy of whether there is a face,
    `prediction[:, 2]` as logits.
    """
    face = uv[:, 2:]
    off_x, off_y = (uv[:, :2] - uv.new_tensor(_MOUTH_PLACE)[:, None, None]).abs().unbind(1)
    mouth = ((off_x < _MOUTH_REACH[0]) & (off_y < _MOUTH_REACH[1])).to(uv).unsqueeze(1)
    weight = face * (1 + _MOUTH_WEIGHT * mouth)
    distance = ((prediction[:, :2] - uv[:, :2]).abs() * weight).sum() / (2 * weight.sum() + 1)
    return distance + F.binary_cross_entropy_with_logits(prediction[:, 2:], face)


def mask_error(fields: WarpFields, mask: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy between the painted layer's mask and where the portrait cannot supply the pixel, (B, 1, T, h, w)."""
    return (F.binary_cross_entropy_with_logits(fields.mask, mask, reduction="none") * weight).sum() / weight.sum()


def choice_error(fields: WarpFields, photos: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """How far off the warped references are, each counted by its confidence: what trusting one reference at a time would cost.

    Blending leaves the loss on pixels content with ghosts of all references; this asks for the best one. Only the confidences
    learn from it. `photos` (B, M, 3, H, W), `target` (B, 3, T, H, W), `weight` (B, 1, T, h, w).
    """
    size = int(target.shape[-2]), int(target.shape[-1])
    with torch.no_grad():
        # At the pictures' size, as they are shown: where a flow jumps, its resizing smears what lies between.
        warped = sample_photos(photos, resize_frames(fields.flow, size))
        light = (warped + 1) * resize_frames(fields.shade, size) - 1
        error = (light - target.unsqueeze(1)).abs().mean(dim=2)  # B M T H W
        error = resize_frames(error, (int(weight.shape[-2]), int(weight.shape[-1])))
        error = F.avg_pool2d(error.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False).view_as(error)
    return ((fields.confidence.squeeze(2) * error).sum(dim=1, keepdim=True) * weight).sum() / weight.sum()


def paint_error(fields: WarpFields, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error of the painted layer where `mask` (B, 1, T, h, w) says it shows; `target` is the frame, any size."""
    small = resize_frames(target, (int(mask.shape[-2]), int(mask.shape[-1])))
    return ((fields.paint - small).abs() * mask).sum() / (3 * mask.sum() + 1)
