"""A training of the `lite` audio encoder: mel windows to the lips of the picture they belong to and of its neighbours, and to
what is said there.

The paper's audio encoder comes trained (Wav2Lip's). The embedded one learns to hear lip shapes by plain regression; the
generator then trains on its features, which are computed once.

B windows, F pictures, K mel bands, L labels of lips.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.audio.encoder import AudioEncoder
from vivavoz.audio.features import AudioFeatures
from vivavoz.data.corpus import Reader
from vivavoz.data.performance import perform
from vivavoz.data.phonemes import CONSONANTS, SILENCE, VOWELS, Phoneme
from vivavoz.errors import ConfigError, DataError
from vivavoz.rig.rig import Rig
from vivavoz.timing import FRAME_RATE
from vivavoz.train.loop import LoopConfig, Objective, Step
from vivavoz.train.sheets import Sheet, tracks

_NUM_SHOWN = 64
_SYMBOLS = (SILENCE, *sorted(VOWELS | CONSONANTS))
_NEPER = 2.88
"""Mel levels count 12.5 dB as 1: this makes them logarithms of power."""


@dataclass(frozen=True, kw_only=True)
class AudioTraining:
    """Settings of a run."""

    loop: LoopConfig
    batch_size: int = 256
    num_lip_labels: int = 7
    """The first so many labels speak of the lips."""
    num_neighbours: int = 2
    """Pictures before and after the window's own whose lips are also to be told from it."""
    phoneme_weight: float = 0.1
    """Weight of telling what is said in the window's picture and the two beside it."""
    speeds: tuple[float, ...] = (0.8, 0.9, 1.0, 1.1, 1.25)
    """At which readers are heard, their pitch with it."""
    spoil: float = 1.0
    """How much windows are spoilt: levels, an equaliser, longer and shorter vocal tracts, noise, lost bands. 0: not at all."""

    def __post_init__(self) -> None:
        """Raise ConfigError for speeds that are none."""
        if not self.speeds or min(self.speeds) < 0.25 or max(self.speeds) > 4:
            raise ConfigError(f"got speeds {self.speeds}, expected some from 0.25 to 4: 1 is as spoken")


@dataclass(frozen=True)
class Reading:
    """A recording at one speed, as the encoder learns from it."""

    windows: Tensor
    """(F, 16, K) mel windows, half precision."""
    lips: Tensor
    """(F, L)."""
    phonemes: Tensor
    """(F,) int64: what is said in the middle of each picture."""


def make_readings(readers: Sequence[Reader], rig: Rig, audio: AudioFeatures, settings: AudioTraining) -> list[Reading]:
    """All readers at all speeds, performed by one face: what lips do to a sound is alike in all."""
    return [_reading(at_speed(reader, speed), rig, audio, settings) for speed in settings.speeds for reader in readers]


def at_speed(reader: Reader, speed: float) -> Reader:
    """Faster or slower, as a tape: pitch and formants go along."""
    from scipy.signal import resample_poly

    if speed == 1:
        return reader
    ratio = Fraction(speed).limit_denominator(40)
    samples = resample_poly(reader.samples, ratio.denominator, ratio.numerator).astype(np.float32)
    phonemes = tuple(
        Phoneme(symbol=one.symbol, start_s=one.start_s / float(ratio), end_s=one.end_s / float(ratio)) for one in reader.phonemes
    )
    return replace(reader, samples=samples, phonemes=phonemes)


def _reading(reader: Reader, rig: Rig, audio: AudioFeatures, settings: AudioTraining) -> Reading:
    labels = rig.labels(perform(reader.samples, seed=settings.loop.seed, phonemes=reader.phonemes).motion)
    with torch.no_grad():
        windows = audio.windows(torch.from_numpy(reader.samples)[None])[0]
    middles_s = (np.arange(len(labels)) + 0.5) / FRAME_RATE
    last = np.searchsorted([one.start_s for one in reader.phonemes], middles_s, side="right") - 1
    said = np.array([_SYMBOLS.index(one.symbol) for one in reader.phonemes], np.int64)
    return Reading(windows.half(), torch.from_numpy(labels[:, : settings.num_lip_labels].copy()), torch.from_numpy(said[last]))


@dataclass(frozen=True)
class Heard:
    """A batch."""

    windows: Tensor
    """(B, 16, K) mel windows."""
    lips: Tensor
    """(B, neighbours x L)."""
    phonemes: Tensor
    """(B, 3) int64: of the picture before, of its own, of the one after."""


class AudioObjective(Objective[Heard]):
    """The regression; its linear heads are left behind."""

    def __init__(self, encoder: AudioEncoder, readings: Sequence[Reading], settings: AudioTraining) -> None:
        """Raise DataError where all readings are too short to have neighbours."""
        super().__init__()
        self.encoder, self.settings = encoder, settings
        self._reach = max(settings.num_neighbours, 1)
        self._readings = [reading for reading in readings if len(reading.lips) > 2 * self._reach]
        if not self._readings:
            raise DataError(f"none of {len(readings)} readings is longer than {2 * self._reach} pictures: give longer recordings")
        num_features, num_pictures = encoder.config.num_features, 2 * settings.num_neighbours + 1
        self.head = nn.Linear(num_features, settings.num_lip_labels * num_pictures)
        self.phoneme_head = nn.Linear(num_features, 3 * len(_SYMBOLS))

    def batches(self, first_step: int) -> Iterator[Heard]:
        """Random windows out of at most 32 random readings a step."""
        settings, num_readings = self.settings, min(32, self.settings.batch_size)
        for step in itertools.count(first_step):
            rng = np.random.default_rng([settings.loop.seed, step])
            windows, lips, phonemes = [], [], []
            for reading in (self._readings[i] for i in rng.integers(len(self._readings), size=num_readings)):
                frames = rng.integers(self._reach, len(reading.lips) - self._reach, size=settings.batch_size // num_readings)
                windows.append(reading.windows[frames])
                lips.append(reading.lips[_around(frames, settings.num_neighbours)].flatten(1))
                phonemes.append(reading.phonemes[_around(frames, 1)])
            yield Heard(torch.cat(windows).float(), torch.cat(lips), torch.cat(phonemes))

    def forward(self, batch: Heard, step: Step) -> dict[str, Tensor]:
        """The distance to the lips, and the cross entropy of what is said."""
        heard = self.encoder(spoilt(batch.windows, self.settings.spoil, step.rng).unsqueeze(0)).squeeze(0)
        told = self.phoneme_head(heard).unflatten(1, (3, -1))
        return {
            "lips": F.smooth_l1_loss(self.head(heard), batch.lips, beta=0.5),
            "phonemes": self.settings.phoneme_weight
            * F.cross_entropy(told.flatten(0, 1), batch.phonemes.flatten(), label_smoothing=0.1),
        }

    def show(self, batch: Heard) -> dict[str, Sheet]:
        """Lips of some windows, true and heard."""
        heard = self.encoder(batch.windows[None, :_NUM_SHOWN]).squeeze(0)
        return {"true_heard_lips": tracks(batch.lips[:_NUM_SHOWN].T, self.head(heard).T)}


def spoilt(windows: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Mel windows (B, 16, K) as other microphones, rooms and people would have made them, each in its own way."""
    count, num_frames, num_bands = windows.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=rng)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=rng)

    bands = torch.arange(num_bands, dtype=torch.float32)
    stretched = (bands * torch.exp(0.06 * strength * normal(1)).clamp(0.85, 1.18)).clamp(0, num_bands - 1)
    below = stretched.long().clamp(max=num_bands - 2)
    share = (stretched - below)[:, None]
    below = below[:, None].expand(-1, num_frames, -1)
    tract = torch.lerp(windows.gather(2, below), windows.gather(2, below + 1), share)
    equaliser = F.interpolate(normal(1, 6), num_bands, mode="linear", align_corners=True)
    levels = tract + 0.3 * strength * (equaliser + normal(1, 1))
    if strength:
        floor = -4 + 2.6 * strength * uniform(1, 1) * (uniform(1, 1) < 0.5) + 0.25 * normal(num_frames, num_bands)
        levels = torch.logaddexp(_NEPER * levels, _NEPER * floor) / _NEPER
    first = num_bands * uniform(1, 1)
    is_lost = (uniform(1, 1) < 0.2 * strength) & (bands >= first) & (bands < first + 0.1 * num_bands)
    return torch.where(is_lost, levels.mean((1, 2), keepdim=True), levels).clamp(-4, 4)


def _around(frames: np.ndarray, reach: int) -> np.ndarray:
    """Pictures (B, 2 x reach + 1) beside each of some."""
    return frames[:, None] + np.arange(-reach, reach + 1)
