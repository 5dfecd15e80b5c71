"""Sound to audio features, one vector per picture, as a stream: mel, windows, encoder.

B rows, N samples, F pictures, M mel frames, K mel bands, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoz.audio.alignment import (
    MEL_FRAMES_PER_WINDOW,
    first_mel_frame,
    frames_covered,
    frames_of_samples,
    samples_needed,
)
from vivavoz.audio.encoder import AudioEncoder, AudioEncoderConfig
from vivavoz.audio.mel import MelSpectrogram, MelState
from vivavoz.errors import ConfigError
from vivavoz.nn.stream import StreamState


@dataclass(slots=True, kw_only=True)
class AudioFeaturesState(StreamState):
    """Where a stream of sound stands, and what its next pictures still need."""

    mel: MelState
    mel_frames: Tensor
    """(B, 15, K) float32: mel frames from the next picture's window on, of which the first `num_held` count."""
    num_held: int = 0
    num_frames: int = 0
    """Pictures given so far."""
    opened: bool = False
    """Whether the silence before the stream has been put in front of it."""


class AudioFeatures(nn.Module):
    """Mono 16 kHz sound to the features of every picture.

    Picture `i` sees the sound up to `alignment.samples_needed(i + 1)`, at most 172.5 ms beyond its start, and nothing later.
    """

    def __init__(self, config: AudioEncoderConfig | None = None) -> None:
        super().__init__()
        self.mel = MelSpectrogram()
        self.encoder = AudioEncoder(config)

    def init_state(self, batch_size: int) -> AudioFeaturesState:
        """A stream at its start. The module must be in eval mode: in training mode batch norm mixes past and future."""
        if self.training:
            raise ConfigError("audio features cannot be streamed in training mode; call eval() on the module first")
        return self._init_state(batch_size)

    def forward(self, samples: Tensor, state: AudioFeaturesState | None = None) -> Tensor:
        """Features of a whole sound, or, with a state, of the pictures that the new samples complete.

        Args:
            samples: (B, N) float32 in [-1, 1], mono, 16 kHz, any N >= 0.
            state: the stream these samples continue.

        Returns:
            (B, F, D). Without a state `F = ceil(N / 640)`; with one, whatever has become computable.
        """
        if state is not None:
            return self._encode(self.next_windows(samples, state))
        return self._encode(self.windows(samples))

    def windows(self, samples: Tensor) -> Tensor:
        """Mel windows of a whole sound (B, N), without weights: (B, F, 16, K). The encoder sees a clip's in one call, so that in
        training batch norm's statistics are the clip's.
        """
        state = self._init_state(samples.shape[0])
        return torch.cat([self.next_windows(samples, state), self._last_windows(state)], dim=1)

    def flush(self, state: AudioFeaturesState) -> Tensor:
        """End the stream as if silence followed: (B, F, D), the pictures still due, `ceil(N / 640)` over the whole stream.

        `reset_` the state before using it again.
        """
        return self._encode(self._last_windows(state))

    def _init_state(self, batch_size: int) -> AudioFeaturesState:
        mel = self.mel.init_state(batch_size)
        mel_frames = mel.samples.new_zeros(batch_size, MEL_FRAMES_PER_WINDOW - 1, self.mel.config.num_bands)
        return AudioFeaturesState(mel=mel, mel_frames=mel_frames)

    def _encode(self, mel_windows: Tensor) -> Tensor:
        features: Tensor = self.encoder(mel_windows)
        return features

    def _last_windows(self, state: AudioFeaturesState) -> Tensor:
        num_samples = state.mel.num_samples
        num_missing = max(0, samples_needed(frames_of_samples(num_samples)) - num_samples)
        return self.next_windows(state.mel_frames.new_zeros(state.mel_frames.shape[0], num_missing), state)

    def next_windows(self, samples: Tensor, state: AudioFeaturesState) -> Tensor:
        """Take in samples (B, N); mel windows (B, F, 16, K) of the pictures they complete."""
        mel: Tensor = self.mel(samples, state.mel)
        if mel.shape[1] == 0:
            return mel.new_empty(mel.shape[0], 0, MEL_FRAMES_PER_WINDOW, mel.shape[2])
        if not state.opened:
            mel = functional.pad(mel, (0, 0, -first_mel_frame(0), 0), value=self.mel.config.silence)
            state.opened = True
        mel = torch.cat([state.mel_frames[:, : state.num_held], mel], dim=1)

        next_frame, offset = state.num_frames, first_mel_frame(state.num_frames)
        state.num_frames = frames_covered(offset + mel.shape[1])
        starts = [first_mel_frame(frame) - offset for frame in range(next_frame, state.num_frames)]
        rest = mel[:, first_mel_frame(state.num_frames) - offset :]
        state.num_held = rest.shape[1]
        state.mel_frames[:, : state.num_held].copy_(rest)
        if not starts:
            return mel.new_empty(mel.shape[0], 0, MEL_FRAMES_PER_WINDOW, mel.shape[2])
        return mel.unfold(1, MEL_FRAMES_PER_WINDOW, 1)[:, starts].transpose(2, 3)
