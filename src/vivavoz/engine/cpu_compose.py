"""The last step of the reference warp on CPUs, by OpenCV on 8-bit photographs: equal to `compose` but for rounding.

Most of a picture's time goes there: a quarter of a million places, each fetched from somewhere. What is bent has 8 bits, and
so has what is shown; float32 between them is four times the memory traffic. OpenCV fetches at 1/32 of a pixel.
B rows, M references, T frames, h w the fields' size, H W the pictures'.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from vivavoz.media.image import Pixels
from vivavoz.vae.warp import WarpFields

Array = NDArray[np.float32]
T = TypeVar("T")


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
    flow_BTMhw2 = fields.flow.permute(0, 3, 1, 4, 5, 2).contiguous().numpy() * half_size  # from grid_sample's units to pixels
    light_BTMhw = (fields.confidence * fields.shade).squeeze(2).transpose(1, 2).contiguous().numpy()
    paint_BT3hw = (fields.paint * 127.5 + 127.5).transpose(1, 2).contiguous().numpy()
    mask_BThw = fields.mask.squeeze(1).contiguous().numpy()
    batch_size, num_frames = mask_BThw.shape[:2]
    pictures = np.empty((batch_size, num_frames, height, width, 3), np.uint8)

    def make(row: int, t: int) -> None:
        fields_of_frame = (flow_BTMhw2[row, t], light_BTMhw[row, t], paint_BT3hw[row, t], mask_BThw[row, t])
        _compose(*fields_of_frame, photos[row], pictures[row, t])

    if batch_size * num_frames == 1:
        make(0, 0)
    else:
        for _ in in_turn([partial(make, row, t) for row in range(batch_size) for t in range(num_frames)]):
            pass
    return torch.from_numpy(pictures)


def in_turn(jobs: Sequence[Callable[[], T]]) -> Iterator[T]:
    """Do `jobs` on as many threads as torch has, and give their results in order, each as soon as those before it are there.

    OpenCV and OpenVINO let others run meanwhile, and only some of their steps share their work. The threads stay: each has a
    `_Desk`.
    """
    futures = [_threads(torch.get_num_threads()).submit(job) for job in jobs]
    try:
        for future in futures:
            yield future.result()
    finally:  # who reads no further wants no more
        for future in futures:
            future.cancel()


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="vivavoz-pictures")


class _Desk:
    """One thread's memory for pictures of one size: taking fresh memory for every step costs nearly half of the time."""

    def __init__(self, height: int, width: int) -> None:
        self.here = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
        self.source = np.empty_like(self.here)
        self.cover, self.bare, self.gain, self.step = np.empty((4, height, width), np.float32)
        self.planes = np.empty((3, height, width), np.float32)
        self.warped = np.empty((height, width, 3), np.uint8)
        self.levels = list(np.empty((3, height, width), np.uint8))


_OF_THREAD = threading.local()


def _desk(height: int, width: int) -> _Desk:
    desk: _Desk | None = getattr(_OF_THREAD, "desk", None)
    if desk is None or desk.here.shape[:2] != (height, width):  # a thread rarely makes pictures of two sizes in turn
        desk = _OF_THREAD.desk = _Desk(height, width)
    return desk


def _compose(flow_Mhw2: Array, light_Mhw: Array, paint_3hw: Array, mask_hw: Array, photos_MHW3: Pixels, picture: Pixels) -> None:
    """One picture, written into `picture` (H, W, 3). A colour at a time, so that it stays in the cache."""
    height, width = picture.shape[:2]
    size, desk = (width, height), _desk(height, width)
    cover = cv2.resize(mask_hw, size, dst=desk.cover)
    cv2.exp(np.negative(cover, out=cover), dst=cover)
    np.reciprocal(np.add(cover, 1, out=cover), out=cover)
    bare = np.subtract(1, cover, out=desk.bare)
    for plane, paint in zip(desk.planes, paint_3hw, strict=True):
        cv2.multiply(cv2.resize(paint, size, dst=desk.step), cover, dst=plane)
    for flow, light, photo in zip(flow_Mhw2, light_Mhw, photos_MHW3, strict=True):
        source = cv2.resize(flow, size, dst=desk.source)
        cv2.add(source, desk.here, dst=source)
        cv2.remap(photo, source, np.empty(0), cv2.INTER_LINEAR, dst=desk.warped, borderMode=cv2.BORDER_REPLICATE)
        # Light is warped + 1 in [-1, 1], so in levels it is the level itself.
        gain = cv2.multiply(cv2.resize(light, size, dst=desk.step), bare, dst=desk.gain)
        for plane, level in zip(desk.planes, cv2.split(desk.warped, desk.levels), strict=True):
            cv2.add(plane, cv2.multiply(level, gain, dst=desk.step, dtype=cv2.CV_32F), dst=plane)
    levels = [cv2.convertScaleAbs(plane, dst=level) for plane, level in zip(desk.planes, desk.levels, strict=True)]
    cv2.merge(levels, dst=picture)
