"""Clips of known content, and weight files in the public formats with random numbers in them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.unit.rig.test_rig import face_image, face_landmarks
from vivavoz.evaluate.videos.clips import TalkingClip

SIZE_PX = 256


def talking_clip(num_frames: int = 30, *, name: str = "drawn", open_by: NDArray | None = None, seed: int = 0) -> TalkingClip:
    """A drawn face whose lower lip goes down by `open_by` face heights, with noise for a voice."""
    points = face_landmarks()
    image = cv2.resize(face_image(points), (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
    points = points * (SIZE_PX / 512)
    face = np.repeat(points[None], num_frames, axis=0).astype(np.float32)
    if open_by is not None:
        height = float(points[152, 1] - points[10, 1])
        face[:, 14, 1] = face[:, 13, 1] + open_by * height
    frames = np.repeat(image[None], num_frames, axis=0).astype(np.uint8)
    samples = 0.1 * np.random.default_rng(seed).standard_normal(640 * num_frames)
    return TalkingClip(name=name, frames=frames, samples=samples.astype(np.float32), landmarks=face)


class TinyI3D(nn.Module):
    """What `i3d_torchscript.pt` is called like: 400 numbers of the means of a 5 x 4 grid of a video."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(400, 60))

    def forward(self, video: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        """(B, 3, T, H, W) in [0, 255] -> (B, 400)."""
        if rescale:
            video = video / 127.5 - 1
        if resize:
            video = torch.nn.functional.interpolate(video.flatten(0, 1), size=[20, 16]).unflatten(0, [video.shape[0], 3])
        small = torch.nn.functional.adaptive_avg_pool3d(video, [1, 5, 4]).flatten(1)
        if not return_features:
            small = small * 0
        return small @ self.weight.T


def write_i3d(path: Path) -> TinyI3D:
    torch.manual_seed(3)
    network = TinyI3D().eval()
    torch.jit.script(network).save(str(path))
    return network


def write_face_network(path: Path, seed: int = 0) -> NDArray[np.float32]:
    """An ONNX file of one convolution, 3 x 112 x 112 to 16 numbers; gives its weights (16, 3, 112, 112)."""
    weights = np.random.default_rng(seed).standard_normal((16, 3, 112, 112)).astype(np.float32)
    node = b"".join([_text(1, "face"), _text(1, "w"), _text(2, "out"), _text(4, "Conv")])
    tensor = b"".join([*(_number(1, size) for size in weights.shape), _number(2, 1), _text(8, "w"), _bytes(9, weights.tobytes())])
    graph = b"".join(
        [
            _bytes(1, node),
            _text(2, "g"),
            _bytes(5, tensor),
            _bytes(11, _value("face", (1, 3, 112, 112))),
            _bytes(12, _value("out", (1, 16, 1, 1))),
        ]
    )
    path.write_bytes(b"".join([_number(1, 8), _bytes(7, graph), _bytes(8, _number(2, 13))]))
    return weights


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, dims)))


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _number(tag: int, value: int) -> bytes:
    return _varint(tag << 3) + _varint(value)


def _bytes(tag: int, content: bytes) -> bytes:
    return _varint(tag << 3 | 2) + _varint(len(content)) + content


def _text(tag: int, text: str) -> bytes:
    return _bytes(tag, text.encode())
