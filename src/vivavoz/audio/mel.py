"""Mel spectrogram with Wav2Lip's published settings, as a stream.

B rows, N samples, M mel frames (80 per second), K mel bands, S samples under the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vivavoz.errors import ConfigError
from vivavoz.nn.stream import StreamState
from vivavoz.timing import SAMPLE_RATE_HZ

_MAX_FRAMES_AT_ONCE = 4096
"""Mel frames computed together; bounds the memory an hour of sound takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MelConfig:
    """What a mel frame is. The defaults are what the public Wav2Lip weights were trained on."""

    sample_rate_hz: int = SAMPLE_RATE_HZ
    window_samples: int = 800
    """Length of the Hann window and of the Fourier transform."""
    hop_samples: int = 200
    num_bands: int = 80
    min_hz: float = 55.0
    max_hz: float = 7600.0
    preemphasis: float = 0.97
    min_level_db: float = -100.0
    ref_level_db: float = 20.0
    max_abs_value: float = 4.0
    """Levels from `min_level_db` to 0 dB below the reference become values from minus this to plus this."""

    def __post_init__(self) -> None:
        if self.window_samples % 2 or not 0 < self.hop_samples <= self.window_samples // 2:
            raise ConfigError(
                f"mel window of {self.window_samples} and hop of {self.hop_samples} samples; "
                "expected an even window at least twice the hop"
            )
        if not 0 <= self.min_hz < self.max_hz <= self.sample_rate_hz / 2:
            raise ConfigError(
                f"mel bands from {self.min_hz} to {self.max_hz} Hz; "
                f"expected a rising range within 0 to {self.sample_rate_hz / 2} Hz"
            )
        if self.num_bands < 1 or self.min_level_db >= 0 or self.max_abs_value <= 0:
            raise ConfigError("mel settings need num_bands >= 1, min_level_db < 0 and max_abs_value > 0")

    @property
    def silence(self) -> float:
        """Value of every band in digital silence."""
        return -self.max_abs_value


@dataclass(slots=True, kw_only=True)
class MelState(StreamState):
    """Sound that coming mel frames still need."""

    samples: Tensor
    """(B, S + 1) float32: the last samples, of which the first `num_held` count; one more than the window, for preemphasis."""
    num_held: int
    num_samples: int = 0
    """Samples taken in since the start of the stream."""

    def _reset_phases(self) -> None:
        # The window of mel frame 0 reaches half its length into the silence before the stream.
        self.num_held = self.samples.shape[1] // 2 + 1
        self.num_samples = 0


class MelSpectrogram(nn.Module):
    """Sound to mel frames: preemphasis, Hann window, magnitude, Slaney mel bands, decibels, scaled and clipped to [-4, 4].

    Mel frame `m` is centred on sample `hop * m` and sees `window / 2` samples to either side; before and after the stream there
    is silence. Keep the module in float32: the levels span 100 dB.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: MelConfig | None = None) -> None:
        super().__init__()
        self.config = config or MelConfig()
        # Derived from the config, so neither is part of the weights.
        self.register_buffer("window", torch.hann_window(self.config.window_samples), persistent=False)
        self.register_buffer("filterbank", slaney_filterbank(self.config), persistent=False)

    def init_state(self, batch_size: int) -> MelState:
        """A stream at its start."""
        window_samples = self.config.window_samples
        samples = torch.zeros(batch_size, window_samples + 1, dtype=torch.float32, device=self.window.device)
        return MelState(samples=samples, num_held=window_samples // 2 + 1)

    def forward(self, samples: Tensor, state: MelState | None = None) -> Tensor:
        """Mel frames of a whole sound, or, with a state, the frames the new samples complete.

        Args:
            samples: (B, N) float32 in [-1, 1], any N >= 0.
            state: the stream these samples continue.

        Returns:
            (B, M, K) float32 in [-4, 4]. Without a state `M = 1 + N // hop`; with one, whatever has become complete.
        """
        if state is not None:
            return self._step(samples, state)
        state = self.init_state(samples.shape[0])
        return torch.cat([self._step(samples, state), self.flush(state)], dim=1)

    def flush(self, state: MelState) -> Tensor:
        """End the stream: (B, M, K), the frames centred within the sound that still lacked samples. `reset_` before reuse."""
        hop, window = self.config.hop_samples, self.config.window_samples
        samples_needed = state.num_samples // hop * hop + window // 2
        return self._step(state.samples.new_zeros(state.samples.shape[0], samples_needed - state.num_samples), state)

    def _step(self, samples: Tensor, state: MelState) -> Tensor:
        (batch_size, num_new), num_held = samples.shape, state.num_held
        num_window = self.config.window_samples + 1
        state.num_samples += num_new
        if num_held + num_new < num_window:
            state.samples[:, num_held : num_held + num_new].copy_(samples)
            state.num_held = num_held + num_new
            return samples.new_empty(batch_size, 0, self.config.num_bands)

        samples = torch.cat([state.samples[:, :num_held], samples], dim=1)
        num_frames = 1 + (samples.shape[1] - num_window) // self.config.hop_samples
        rest = samples[:, num_frames * self.config.hop_samples :]
        state.num_held = rest.shape[1]
        state.samples[:, : state.num_held].copy_(rest)

        frames = samples.unfold(1, num_window, self.config.hop_samples)
        return torch.cat([self._mel(part) for part in torch.split(frames, _MAX_FRAMES_AT_ONCE, dim=1)], dim=1)

    def _mel(self, frames: Tensor) -> Tensor:
        """(B, M, S + 1) samples to (B, M, K)."""
        config = self.config
        emphasised = frames[..., 1:] - config.preemphasis * frames[..., :-1]
        magnitude = torch.fft.rfft(emphasised * self.window).abs()
        floor = 10 ** (config.min_level_db / 20)
        level_db = 20 * (magnitude @ self.filterbank).clamp_min(floor).log10() - config.ref_level_db
        scaled: Tensor = 2 * config.max_abs_value * (level_db / -config.min_level_db + 1) - config.max_abs_value
        return scaled.clamp(-config.max_abs_value, config.max_abs_value)


def slaney_filterbank(config: MelConfig) -> Tensor:
    """Triangular mel bands of equal area on Slaney's scale (linear to 1 kHz, logarithmic above): (S / 2 + 1, K) float32."""
    lowest, highest = _mel_of_hz(config.min_hz), _mel_of_hz(config.max_hz)
    step = (highest - lowest) / (config.num_bands + 1)
    edges_hz = torch.tensor([_hz_of_mel(lowest + step * i) for i in range(config.num_bands + 2)], dtype=torch.float64)
    bins_hz = torch.arange(config.window_samples // 2 + 1, dtype=torch.float64) * config.sample_rate_hz / config.window_samples
    left, centre, right = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz[:, None] - left) / (centre - left)
    falling = (right - bins_hz[:, None]) / (right - centre)
    triangles = torch.minimum(rising, falling).clamp_min(0)
    return (triangles * 2 / (right - left)).float()


_HZ_PER_MEL = 200 / 3
_LOG_START_HZ = 1000.0
_LOG_STEP = math.log(6.4) / 27


def _mel_of_hz(hz: float) -> float:
    if hz < _LOG_START_HZ:
        return hz / _HZ_PER_MEL
    return _LOG_START_HZ / _HZ_PER_MEL + math.log(hz / _LOG_START_HZ) / _LOG_STEP


def _hz_of_mel(mel: float) -> float:
    log_start = _LOG_START_HZ / _HZ_PER_MEL
    if mel < log_start:
        return mel * _HZ_PER_MEL
    return _LOG_START_HZ * math.exp((mel - log_start) * _LOG_STEP)
