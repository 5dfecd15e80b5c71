"""Whether the generated mouth says what is heard: held-out portraits speak held-out recordings through the real engine.

Four mouths are held against the animator's, which is the truth: the one seen in the generated video, the one the generator's
latents speak of (no rendering needed), one that only follows loudness, and the one in the animator's own pictures, measured the
same way, which shows how good the ruler is.

Legend: F pictures, N latent frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vivavoz.engine.model import Model
from vivavoz.evaluate.faces import FindLandmarks
from vivavoz.evaluate.kept import Keep, keep_nothing
from vivavoz.evaluate.material import HeldPortrait, HeldSpeech, Material
from vivavoz.evaluate.mouth import LipScores, Track, loudness_mouth, measure_openings, score_lips
from vivavoz.evaluate.speaking import Spoken, speak
from vivavoz.rig.labels import LABELS, in_units
from vivavoz.train.label_latents import LabelLatents

MOUTHS = {
    "video": "generated pictures",
    "latents": "generated latents",
    "loudness": "loudness alone",
    "ruler": "the animator's pictures (the ruler's limit)",
    "truth": "the animator",
}
"""The mouths that are scored, by their names in `PairScores`, and what a report calls them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LipsConfig:
    """What is generated."""

    num_pairs: int = 20
    num_frames: int = 150
    """Pictures of a pair, at most."""
    num_ruler_pairs: int = 4
    """Pairs on which the animator's own pictures are measured too."""
    label_latents: bool = True
    """Also read the opening from the generator's latents: for models trained on label latents."""
    num_samples: int = 2
    """Pairs of which pictures are kept to look at."""
    pictures_per_sample: int = 10
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LipSample:
    """A pair to look at: pictures at some moments, and the opening over time."""

    name: str
    moments: tuple[int, ...]
    """Indices of the pictures."""
    generated: tuple[NDArray[np.uint8], ...]
    performed: tuple[NDArray[np.uint8], ...]
    """The animator's pictures at the same moments."""
    openings: Track
    truth: Track


@dataclass(frozen=True, kw_only=True, slots=True)
class PairScores:
    """One portrait speaking one recording."""

    portrait: str
    speech: str
    video: LipScores | None
    """Measured in the generated pictures; None without."""
    latents: LipScores | None
    """Read from the generator's latents; None for models not trained on label latents."""
    loudness: LipScores
    truth: LipScores
    """The animator against itself: its closures and deviations."""
    ruler: LipScores | None
    """Measured in the animator's own pictures; for some pairs only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lips:
    """What `evaluate_lips` found."""

    pairs: tuple[PairScores, ...]

    def summaries(self) -> dict[str, LipSummary]:
        """Every mouth that was scored, by its key in `MOUTHS`."""
        found = {name: summarise([getattr(pair, name) for pair in self.pairs]) for name in MOUTHS}
        return {name: summary for name, summary in found.items() if summary is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class LipSummary:
    """Means over pairs; the lag is the median, closures are counted together."""

    num_pairs: int
    r: float
    best_r: float
    best_lag_frames: float
    closure: float
    """Share of p, b, m that found the lips closed."""
    deviation_speech: float
    deviation_silence: float


def summarise(scores: Sequence[LipScores | None]) -> LipSummary | None:
    """All pairs' scores in one row; None where there are none."""
    present = [score for score in scores if score is not None]
    if not present:
        return None
    bilabials = sum(score.bilabials for score in present)
    return LipSummary(
        num_pairs=len(present),
        r=_mean(score.r for score in present),
        best_r=_mean(score.best_r for score in present),
        best_lag_frames=median(score.best_lag_frames for score in present),
        closure=sum(score.closures for score in present) / bilabials if bilabials else float("nan"),
        deviation_speech=_mean(score.deviation_speech for score in present),
        deviation_silence=_mean(score.deviation_silence for score in present),
    )


def evaluate_lips(
    model: Model,
    material: Material,
    config: LipsConfig,
    find: FindLandmarks | None,
    progress: Callable[[str], None] = lambda _: None,
    keep: Keep = keep_nothing,
) -> tuple[Lips, tuple[LipSample, ...]]:
    """Let held-out portraits speak held-out recordings, and compare the mouths; and some pairs to look at.

    `find` measures pictures; without it none are made, and only latents and loudness are scored: good enough while training.
    """
    tried: list[_Tried] = []
    for i, (portrait, speech) in enumerate(material.pairs(config.num_pairs)):
        tried.append(keep(f"pair-{i}", _Tried, partial(_try_pair, model, portrait, speech, i, config, find)))
        progress(f"lips: {i + 1}/{config.num_pairs} pairs")
    return Lips(pairs=tuple(one.scores for one in tried)), tuple(one.sample for one in tried if one.sample is not None)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Tried:
    """A pair's scores, and of the first ones what there is to look at."""

    scores: PairScores
    sample: LipSample | None


def _try_pair(
    model: Model, portrait: HeldPortrait, speech: HeldSpeech, number: int, config: LipsConfig, find: FindLandmarks | None
) -> _Tried:
    speech = speech.cut(config.num_frames)
    rig = portrait.rig()
    truth = in_units(rig.labels(speech.motion), "opening")
    spoken = speak(model, portrait.image, speech.samples, seed=config.seed + number, shown=() if find is None else None)
    video = read = ruler = sample = None
    if find is not None:
        openings = measure_openings(spoken.images, find)
        video = score_lips(openings, truth, speech.phonemes)
        if number < config.num_ruler_pairs:
            performed = (rig.render(row, spoken.images[0].shape[0], flow_size=0).image for row in speech.motion)
            ruler = score_lips(measure_openings(performed, find), truth, speech.phonemes)
        if number < config.num_samples:
            sample = _sample(portrait, speech, spoken, openings, truth, config.pictures_per_sample)
    if config.label_latents:
        read = score_lips(opening_of_latents(spoken.latents, len(truth)), truth, speech.phonemes)
    scores = PairScores(
        portrait=portrait.name,
        speech=speech.name,
        video=video,
        latents=read,
        loudness=score_lips(loudness_mouth(speech.samples, len(truth)), truth, speech.phonemes),
        truth=score_lips(truth, truth, speech.phonemes),
        ruler=ruler,
    )
    return _Tried(scores=scores, sample=sample)


def opening_of_latents(latents: Tensor, num_frames: int) -> Track:
    """Lip opening in face heights, (F,), that label latents (1, C, N, h, w) speak of."""
    labels = LabelLatents(len(LABELS), latents.shape[1]).read(latents.float())[0, :num_frames].numpy()
    return np.maximum(in_units(labels, "opening"), 0)


def _sample(
    portrait: HeldPortrait, speech: HeldSpeech, spoken: Spoken, openings: Track, truth: Track, num_pictures: int
) -> LipSample:
    moments = tuple(int(i) for i in np.linspace(0, len(truth) - 1, num_pictures))
    rig, size = portrait.rig(), spoken.images[0].shape[0]
    return LipSample(
        name=f"{portrait.name} speaks {speech.name}",
        moments=moments,
        generated=tuple(spoken.images[i] for i in moments),
        performed=tuple(rig.render(speech.motion[i], size, flow_size=0).image for i in moments),
        openings=openings,
        truth=truth,
    )


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return fmean(known) if known else float("nan")
