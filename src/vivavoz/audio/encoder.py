"""Mel windows to one feature vector per picture: the audio encoder of Wav2Lip (paper [36]).

B rows, F pictures, C channels, K mel bands, W mel frames in a window, D features.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vivavoz.audio.alignment import MEL_FRAMES_PER_WINDOW
from vivavoz.errors import ConfigError, WeightsError

NUM_MEL_BANDS = 80
"""Mel bands the convolutions reduce to one."""

_MAX_FRAMES_AT_ONCE = 512
"""Pictures encoded together; bounds the memory an hour of sound takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioEncoderConfig:
    """Size of the audio encoder. The defaults are the public Wav2Lip's (2.8M parameters)."""

    channels: tuple[int, int, int, int] = (32, 64, 128, 256)
    """Channels of the four stages."""
    num_features: int = 512
    """Features per picture."""

    def __post_init__(self) -> None:
        if len(self.channels) != 4 or min(*self.channels, self.num_features) < 1:
            raise ConfigError(
                f"audio encoder has channels {self.channels} and {self.num_features} features; "
                "expected four positive channel counts and at least one feature"
            )


class ConvBlock(nn.Module):
    """Convolution, batch norm, optional identity residual, ReLU: (B, C, K, W) to (B, C', K', W')."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int | tuple[int, int] = 1,
        padding: int = 1,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.conv_block = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, K, W) to (B, C', K', W')."""
        y = self.conv_block(x)
        return torch.relu(y + x if self.residual else y)


class AudioEncoder(nn.Module):
    """Encodes every picture's mel window on its own; nothing is carried from picture to picture.

    In training mode batch norm mixes the pictures of a batch: call `eval()` before streaming.
    """

    def __init__(self, config: AudioEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or AudioEncoderConfig()
        first, second, third, fourth = self.config.channels
        # Names below `blocks` are those of the public checkpoint below `audio_encoder`.
        self.blocks = nn.Sequential(
            ConvBlock(1, first),
            ConvBlock(first, first, residual=True),
            ConvBlock(first, first, residual=True),
            ConvBlock(first, second, stride=(3, 1)),
            ConvBlock(second, second, residual=True),
            ConvBlock(second, second, residual=True),
            ConvBlock(second, third, stride=3),
            ConvBlock(third, third, residual=True),
            ConvBlock(third, third, residual=True),
            ConvBlock(third, fourth, stride=(3, 2)),
            ConvBlock(fourth, fourth, residual=True),
            ConvBlock(fourth, self.config.num_features, padding=0),
            ConvBlock(self.config.num_features, self.config.num_features, kernel_size=1, padding=0),
        )

    def forward(self, mel_windows: Tensor) -> Tensor:
        """Encode mel windows.

        Args:
            mel_windows: (B, F, 16, 80) float, values in [-4, 4]: time, then bands.

        Returns:
            (B, F, D), values >= 0.
        """
        batch_size, num_frames = mel_windows.shape[:2]
        if num_frames == 0:
            return mel_windows.new_empty(batch_size, 0, self.config.num_features)
        return torch.cat([self._encode(part) for part in torch.split(mel_windows, _MAX_FRAMES_AT_ONCE, dim=1)], dim=1)

    def _encode(self, mel_windows: Tensor) -> Tensor:
        batch_size, num_frames = mel_windows.shape[:2]
        images = mel_windows.transpose(2, 3).reshape(batch_size * num_frames, 1, NUM_MEL_BANDS, MEL_FRAMES_PER_WINDOW)
        features: Tensor = self.blocks(images)
        return features.view(batch_size, num_frames, self.config.num_features)


def load_wav2lip_weights(encoder: AudioEncoder, path: str | Path) -> None:
    """Copy the audio encoder's weights out of a public Wav2Lip checkpoint, in place.

    The file is a torch pickle `{"state_dict": {"module.audio_encoder.0.conv_block.0.weight": ...}}`, with or without `module.`;
    what else is in it is ignored. It is read without running any code it may hold.

    Raises:
        WeightsError: no such file, not a torch checkpoint, truncated, or without a fitting tensor for every name.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; give the public Wav2Lip checkpoint, such as wav2lip_gan.pth")
    found = _audio_encoder_tensors(path, _load_checkpoint(path))
    expected = encoder.blocks.state_dict()
    missing = [name for name in expected if name not in found]
    if missing:
        raise WeightsError(
            f"{path} lacks audio_encoder.{missing[0]} and {len(missing) - 1} more of {len(expected)} tensors; "
            "give an unmodified Wav2Lip checkpoint"
        )
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise WeightsError(
                f"{path} has audio_encoder.{name} of shape {tuple(found[name].shape)}, expected {tuple(tensor.shape)}; "
                "only an encoder of Wav2Lip's size (the default config) can take these weights"
            )
    encoder.blocks.load_state_dict({name: found[name] for name in expected})


def _load_checkpoint(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} is not a torch checkpoint of plain tensors, or is damaged; download it again") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is truncated or damaged ({_first_line(error)}); download it again") from error


def _audio_encoder_tensors(path: Path, checkpoint: object) -> dict[str, Tensor]:
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict):
        checkpoint = checkpoint["state_dict"]
    if not isinstance(checkpoint, dict):
        raise WeightsError(f"{path} holds a {type(checkpoint).__name__}, expected a Wav2Lip checkpoint with a state_dict")
    prefix = "audio_encoder."
    names = {name: name.removeprefix("module.") for name in checkpoint if isinstance(name, str)}
    return {
        plain.removeprefix(prefix): checkpoint[name]
        for name, plain in names.items()
        if plain.startswith(prefix) and isinstance(checkpoint[name], Tensor)
    }


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
