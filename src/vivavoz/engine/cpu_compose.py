"""The last step of the reference warp on CPUs, by OpenCV on 8-bit photographs: equal to `compose` but for rounding.

Most of a picture's time goes there: a quarter of a million places, each fetched from somewhere. What is bent has 8 bits, and
so has what is shown; float32 between them is four times the memory traffic. OpenCV fetches at 1/32 of a pixel.
B rows, M references, T frames, h w the fields' size, H W the pictures'.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from vivavoz.media.image import Pixels
from vivavoz.vae.warp import WarpFields

Array = NDArray[np.float32]


_PHOTOS: MutableMapping[Tensor, Pixels] = WeakTensorKeyDictionary()
"""A session's photographs are the same for every block."""


def photos_in_8_bits(photos: Tensor) -> Pixels:
    """References (B, M, 3, H, W) in [-1, 1] as pictures (B, M, H, W, 3) uint8; of one tensor always the same array."""
    if photos not in _PHOTOS:
        levels = (photos.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        _PHOTOS[photos] = levels.permute(0, 1, 3, 4, 2).contiguous().numpy()
    return _PHOTOS[photos]


def compose_in_8_bits(fields: WarpFields, photos: Pixels) -> Tensor:
    """`compose` on the CPU for `photos` (B, M, H, W, 3) uint8 of the video's size: pictures (B, T, H, W, 3) uint8."""
    height, width = photos.shape[2:4]
    half_size = np.array([width / 2, height / 2], np.float32)
    here = _places(height, width)
    flow_BTMhw2 = fields.flow.permute(0, 3, 1, 4, 5, 2).contiguous().numpy() * half_size  # from grid_sample's units to pixels
    light_BTMhw = (fields.confidence * fields.shade).squeeze(2).transpose(1, 2).contiguous().numpy()
    paint_BThw3 = (fields.paint * 127.5 + 127.5).permute(0, 2, 3, 4, 1).contiguous().numpy()
    mask_BThw = fields.mask.squeeze(1).contiguous().numpy()
    batch_size, num_frames = mask_BThw.shape[:2]
    pictures = np.empty((batch_size, num_frames, height, width, 3), np.uint8)

    def make(row: int, t: int) -> None:
        fields_of_frame = (flow_BTMhw2[row, t], light_BTMhw[row, t], paint_BThw3[row, t], mask_BThw[row, t])
        pictures[row, t] = _frame(*fields_of_frame, photos[row], here)

    if batch_size * num_frames == 1:
        make(0, 0)
        return torch.from_numpy(pictures)
    jobs = [partial(make, row, t) for row in range(batch_size) for t in range(num_frames)]
    # A thread for every picture in the making: OpenCV lets others run meanwhile, and only some of its steps share their work.
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for done in [threads.submit(job) for job in jobs]:
            done.result()
    return torch.from_numpy(pictures)


@cache
def _places(height: int, width: int) -> Array:
    """x and y of every pixel, (height, width, 2)."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)


def _frame(flow_Mhw2: Array, light_Mhw: Array, paint_hw3: Array, mask_hw: Array, photos_MHW3: Pixels, here: Array) -> Pixels:
    size = (here.shape[1], here.shape[0])
    cover = 1 / (1 + cv2.exp(-cv2.resize(mask_hw, size)))
    picture = cv2.multiply(cv2.resize(paint_hw3, size), cv2.merge([cover] * 3))
    bare = 1 - cover
    for flow, light, photo in zip(flow_Mhw2, light_Mhw, photos_MHW3, strict=True):
        source = cv2.add(cv2.resize(flow, size), here)
        warped = cv2.remap(photo, source, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # Light is warped + 1 in [-1, 1], so in levels it is the level itself.
        gain = cv2.multiply(cv2.resize(light, size), bare)
        cv2.add(picture, cv2.multiply(warped, cv2.merge([gain] * 3), dtype=cv2.CV_32F), dst=picture)
    return np.asarray(cv2.convertScaleAbs(picture), np.uint8)
