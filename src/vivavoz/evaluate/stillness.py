"""Whether lips rest while nothing is said: how much they move in silence and in quiet noise, over how much they do in speech.

Every portrait hears one stream: speech, then digital silence, then noise as quiet as a still room's. The speech may not be over
at once where it ends: the first second of what follows is left out.

Legend: F pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from vivavoz.engine.model import Model
from vivavoz.evaluate.faces import FindLandmarks
from vivavoz.evaluate.kept import Keep, keep_nothing
from vivavoz.evaluate.lips import opening_of_latents
from vivavoz.evaluate.material import HeldPortrait, Material, pick
from vivavoz.evaluate.mouth import Track, measure_openings
from vivavoz.evaluate.speaking import speak
from vivavoz.timing import FRAME_RATE, SAMPLES_PER_FRAME

NOISE_DBFS = -55.0
"""Level of the quiet noise."""
_SETTLE_FRAMES = FRAME_RATE


@dataclass(frozen=True, kw_only=True, slots=True)
class StillnessConfig:
    """What is streamed."""

    num_portraits: int = 3
    """Of which pictures are made."""
    num_latent_portraits: int = 8
    """Of which latents are read, where they tell labels."""
    speech_s: int = 6
    silence_s: int = 10
    """Of silence, and then of noise."""
    label_latents: bool = True
    size: int | None = 256
    """Side of the pictures that are measured; None: the preset's."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stillness:
    """Standard deviations of the lips' opening in face heights, means over portraits."""

    num_portraits: int
    speech: float
    silence: float
    noise: float
    worst_silence_share: float
    """The largest share of silence over speech of a portrait."""

    @property
    def silence_share(self) -> float:
        """Deviation in silence over that in speech."""
        return self.silence / self.speech if self.speech else float("nan")

    @property
    def noise_share(self) -> float:
        """Deviation in quiet noise over that in speech."""
        return self.noise / self.speech if self.speech else float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class StillnessResult:
    """What `evaluate_stillness` found."""

    pictures: Stillness | None
    """Measured in generated pictures."""
    latents: Stillness | None
    """Read from the generator's latents."""


def evaluate_stillness(
    model: Model,
    material: Material,
    config: StillnessConfig,
    find: FindLandmarks | None,
    progress: Callable[[str], None] = lambda _: None,
    keep: Keep = keep_nothing,
) -> StillnessResult:
    """Let portraits speak and then hear nothing; `find` measures pictures, without it only latents are read."""
    heard: list[_Heard] = []
    num_seen = config.num_portraits if find is not None else 0
    count = min(max(num_seen, config.num_latent_portraits if config.label_latents else 0), len(material.portraits))
    for i, portrait in enumerate(material.portraits[:count]):
        sound = speech_then_quiet(pick(material.speeches, i).samples, config, seed=config.seed + i)
        looking = find if i < num_seen else None
        heard.append(keep(f"portrait-{i}", _Heard, partial(_hear, model, portrait, sound, config.seed + i, config, looking)))
        progress(f"stillness: {i + 1}/{count} portraits")
    return StillnessResult(
        pictures=stillness_of([one.seen for one in heard if one.seen is not None], config),
        latents=stillness_of([one.read for one in heard if one.read is not None], config),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Heard:
    """One portrait's openings, (F,), in pictures and in latents; None where they were not looked for."""

    seen: Track | None
    read: Track | None


def _hear(
    model: Model,
    portrait: HeldPortrait,
    sound: NDArray[np.float32],
    seed: int,
    config: StillnessConfig,
    find: FindLandmarks | None,
) -> _Heard:
    spoken = speak(model, portrait.image, sound, seed=seed, shown=() if find is None else None, size=config.size)
    return _Heard(
        seen=None if find is None else measure_openings(spoken.images, find),
        read=opening_of_latents(spoken.latents, len(sound) // SAMPLES_PER_FRAME) if config.label_latents else None,
    )


def speech_then_quiet(samples: NDArray[np.float32], config: StillnessConfig, *, seed: int) -> NDArray[np.float32]:
    """Speech (repeated if need be), silence and quiet noise, (N,)."""
    per_second = FRAME_RATE * SAMPLES_PER_FRAME
    noise = np.random.default_rng(seed).standard_normal(config.silence_s * per_second) * 10 ** (NOISE_DBFS / 20)
    speech = np.resize(samples, config.speech_s * per_second)
    return np.concatenate([speech, np.zeros(config.silence_s * per_second), noise]).astype(np.float32)


def stillness_of(tracks: Iterable[Track], config: StillnessConfig) -> Stillness | None:
    """Deviations of openings (F,) that follow `speech_then_quiet`; None for no track."""
    first, second = config.speech_s * FRAME_RATE, (config.speech_s + config.silence_s) * FRAME_RATE
    rows = [
        (
            float(track[:first].std()),
            float(track[first + _SETTLE_FRAMES : second].std()),
            float(track[second + _SETTLE_FRAMES :].std()),
        )
        for track in tracks
    ]
    if not rows:
        return None
    speech, silence, noise = (fmean(column) for column in zip(*rows, strict=True))
    worst = max(quiet / spoken if spoken else float("nan") for spoken, quiet, _ in rows)
    return Stillness(num_portraits=len(rows), speech=speech, silence=silence, noise=noise, worst_silence_share=worst)
