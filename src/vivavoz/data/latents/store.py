"""How cached latents lie in a folder or at any fsspec URL.

`latents.json` (`LatentsInfo`); `weights/`, the model whose VAE made them; `manifest.jsonl`, as of clips; and for every shard of
clips NAME.safetensors, with four tensors per clip:

- `KEY.latents` (N, C, h, w) bfloat16: the posterior's mean over the whole clip, from its first frame on;
- `KEY.references` (R, C, h, w) bfloat16: single frames encoded alone, one every half second, as a portrait would be;
- `KEY.mel` (W, K) float16: the mel frames of the pictures that the latents stand for, from `first_mel_frame(0)` on;
- `KEY.controls` (N, K) float32: what the face does, as far as the clip's labels know; see `vivavoz.data.latents.controls`.

The first axis is time, and the manifest knows where every tensor begins: a window is one range of bytes. Means suffice: what
the posterior adds to them is far below the noise that the generator learns from. Mel frames take half the room of the paper's
audio features, and let the audio encoder be trained.

Legend: N latents, R references, C channels, W mel frames, K mel bands, F pictures.
"""

import json
import struct
from dataclasses import dataclass
from typing import Final

import torch
from safetensors.torch import save
from torch import Tensor

from vivavoz.audio.alignment import MEL_FRAMES_PER_WINDOW, first_mel_frame
from vivavoz.audio.encoder import NUM_MEL_BANDS
from vivavoz.config_json import from_plain, to_plain
from vivavoz.data.latents.controls import NUM_COLUMNS
from vivavoz.data.shards.clip import ClipInfo
from vivavoz.data.shards.manifest import StoredClip
from vivavoz.data.shards.storage import join, read_bytes, read_json, size_of, write_text
from vivavoz.errors import ConfigError, DataError
from vivavoz.timing import FRAME_RATE, frames_of_latents

INFO_NAME: Final = "latents.json"
WEIGHTS_NAME: Final = "weights"
VERSION: Final = 2
"""Raised when the same clips and weights give other bytes."""
_BF16_BYTES: Final = 2
_PARTS: Final = ("latents", "references", "mel", "controls")


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentsInfo:
    """What all latents of a folder have in common."""

    weights: str
    """Hash of the VAE and its preset."""
    size_px: int
    """Side of the pictures that were encoded."""
    channels: int
    side: int
    """Rows and columns."""
    version: int = VERSION

    @property
    def latent_bytes(self) -> int:
        """Of one latent frame."""
        return self.channels * self.side**2 * _BF16_BYTES

    def save(self, folder: str) -> None:
        """Write it, or see that the same is there. Raises `DataError`, `OutputError`."""
        url = join(folder, INFO_NAME)
        if size_of(url) is None:
            write_text(url, json.dumps(to_plain(self), indent=2) + "\n")
        elif LatentsInfo.load(folder) != self:
            raise DataError(f"{folder} holds latents of another VAE; give the same weights as then, or another folder")

    @classmethod
    def load(cls, folder: str) -> "LatentsInfo":
        """Read it. Raises `DataError` where there is none, or it is damaged or of another version."""
        url = join(folder, INFO_NAME)
        if size_of(url) is None:
            raise DataError(f"{folder} holds no latents (there is no {INFO_NAME}); make some with `vivavoz encode`")
        stored = read_json(url)
        if isinstance(stored, dict) and stored.get("version") != VERSION:
            raise DataError(f"{url} is of version {stored.get('version')}, expected {VERSION}; encode again with this vivavoz")
        try:
            return from_plain(cls, stored, url)
        except ConfigError as error:
            raise DataError(f"{error}; encode again") from error


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """A clip's tensors, as at the head of this file."""

    info: ClipInfo
    latents: Tensor
    references: Tensor
    mel: Tensor
    controls: Tensor


def reference_frames(num_frames: int) -> list[int]:
    """The frames of a clip that can serve as references: one every half second."""
    return [index * FRAME_RATE // 2 for index in range(2 * num_frames // FRAME_RATE + 1) if index * FRAME_RATE // 2 < num_frames]


def mel_of_windows(windows: Tensor) -> Tensor:
    """Mel windows of a clip's pictures, (F, 16, K), as the mel frames they share, (W, K)."""
    offsets = [_mel_row(frame) for frame in range(len(windows))]
    mel = windows.new_zeros(offsets[-1] + MEL_FRAMES_PER_WINDOW, windows.shape[-1])
    for offset, window in zip(offsets, windows, strict=True):
        mel[offset : offset + MEL_FRAMES_PER_WINDOW] = window
    return mel


def pack(clips: list[EncodedClip]) -> tuple[bytes, tuple[StoredClip, ...]]:
    """Clips as the content of a safetensors file, and where each tensor's bytes lie in it."""
    tensors: dict[str, Tensor] = {}
    for clip in clips:
        tensors[f"{clip.info.key}.latents"] = clip.latents.to(torch.bfloat16)
        tensors[f"{clip.info.key}.references"] = clip.references.to(torch.bfloat16)
        tensors[f"{clip.info.key}.mel"] = clip.mel.to(torch.float16)
        tensors[f"{clip.info.key}.controls"] = clip.controls.to(torch.float32)
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])

    def place(name: str) -> tuple[int, int]:
        begin, end = header[name]["data_offsets"]
        return 8 + length + begin, end - begin

    return content, tuple(
        StoredClip(info=clip.info, members={part: place(f"{clip.info.key}.{part}") for part in _PARTS}) for clip in clips
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredLatents:
    """A clip's latents where they lie."""

    clip: StoredClip
    url: str
    layout: LatentsInfo

    @property
    def num_latents(self) -> int:
        """N."""
        return self.clip.members["latents"][1] // self.layout.latent_bytes

    @property
    def num_references(self) -> int:
        """R."""
        return self.clip.members["references"][1] // self.layout.latent_bytes

    def latents(self, wanted: range) -> Tensor:
        """(C, n, h, w) float32 of the wanted latents."""
        return self._rows("latents", wanted).transpose(0, 1)

    def reference(self, index: int) -> Tensor:
        """(C, h, w) float32."""
        return self._rows("references", range(index, index + 1))[0]

    def mel_windows(self, wanted: range) -> Tensor:
        """(F, 16, K) float32: the mel windows of the pictures that the wanted latents stand for; all but a clip's first are 4."""
        frames = range(frames_of_latents(wanted.start), frames_of_latents(wanted.stop))
        first, last = _mel_row(frames[0]), _mel_row(frames[-1]) + MEL_FRAMES_PER_WINDOW
        mel = self._read("mel", 2 * NUM_MEL_BANDS, range(first, last), torch.float16).view(-1, NUM_MEL_BANDS)
        return torch.stack([mel[_mel_row(i) - first :][:MEL_FRAMES_PER_WINDOW] for i in frames])

    def controls(self, wanted: range) -> Tensor:
        """(n, K) of the wanted latents."""
        return self._read("controls", 4 * NUM_COLUMNS, wanted, torch.float32).view(-1, NUM_COLUMNS)

    def _rows(self, part: str, wanted: range) -> Tensor:
        layout = self.layout
        values = self._read(part, layout.latent_bytes, wanted, torch.bfloat16)
        return values.view(-1, layout.channels, layout.side, layout.side)

    def _read(self, part: str, row_bytes: int, wanted: range, dtype: torch.dtype) -> Tensor:
        begin = self.clip.members[part][0]
        content = read_bytes(self.url, begin + wanted.start * row_bytes, begin + wanted.stop * row_bytes)
        return torch.frombuffer(bytearray(content), dtype=dtype).float()


def _mel_row(frame: int) -> int:
    """Where a picture's window begins in the stored mel."""
    return first_mel_frame(frame) - first_mel_frame(0)
