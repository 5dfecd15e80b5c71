"""The weights of `vivavoz sync` that come with the package, on a drawn face that says made-up syllables."""

from dataclasses import replace
from functools import cache
from statistics import fmean

import numpy as np
import pytest
from scipy.signal import lfilter

from tests.unit.evaluate.material import drawn_portrait
from vivavoz.data.performance import perform
from vivavoz.data.phonemes import Phoneme
from vivavoz.evaluate.videos.clips import TalkingClip
from vivavoz.evaluate.videos.judges import SHIPPED_SYNC, load_judges, paths_from
from vivavoz.evaluate.videos.sync import SyncScorer
from vivavoz.timing import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

FORMANTS_HZ = {"AA": (730, 1090, 2440), "IY": (270, 2290, 3010), "UW": (300, 870, 2240), "EH": (530, 1840, 2480)}
NUM_FRAMES = 100


@cache
def scorer() -> SyncScorer:
    found = load_judges(paths_from({}, {})).sync
    assert found is not None
    return found


def vowel(symbol, num_samples, rng):
    """A buzz of about 110 Hz through three resonances."""
    pulses = np.zeros(num_samples)
    pulses[np.cumsum(rng.integers(140, 152, num_samples // 152))] = 1
    for place_hz in FORMANTS_HZ[symbol]:
        radius = np.exp(-np.pi * 90 / SAMPLE_RATE_HZ)
        turn = 2 * np.pi * place_hz / SAMPLE_RATE_HZ
        pulses = lfilter([1 - radius], [1, -2 * radius * np.cos(turn), radius**2], pulses)
    return pulses / np.abs(pulses).max() * np.hanning(num_samples) ** 0.3


@cache
def talking(seed: int) -> TalkingClip:
    """Four seconds of consonants and vowels: m, p and b in silence or a low hum, s as a hiss."""
    rng = np.random.default_rng(seed)
    num_samples = NUM_FRAMES * SAMPLES_PER_FRAME
    samples = 0.001 * rng.standard_normal(num_samples)
    phonemes, at_s = [], 0.2
    while at_s < NUM_FRAMES / 25 - 0.5:
        for symbol in (str(rng.choice(["P", "M", "B", "S"])), str(rng.choice(list(FORMANTS_HZ)))):
            length_s = float(rng.uniform(0.08, 0.14) if symbol not in FORMANTS_HZ else rng.uniform(0.1, 0.26))
            start, stop = round(at_s * SAMPLE_RATE_HZ), round((at_s + length_s) * SAMPLE_RATE_HZ)
            if symbol in FORMANTS_HZ:
                samples[start:stop] += 0.3 * vowel(symbol, stop - start, rng)
            elif symbol == "S":
                samples[start:stop] += 0.05 * np.diff(rng.standard_normal(stop - start + 1))
            elif symbol == "M":
                samples[start:stop] += 0.05 * np.sin(2 * np.pi * 110 / SAMPLE_RATE_HZ * np.arange(stop - start))
            phonemes.append(Phoneme(symbol=symbol, start_s=at_s, end_s=at_s + length_s))
            at_s += length_s
        at_s += float(rng.uniform(0, 0.15))
    voice = samples.astype(np.float32)
    motion = perform(voice, seed=seed, phonemes=phonemes).motion
    rig = drawn_portrait().rig()
    return TalkingClip(
        name=f"drawn {seed}",
        frames=np.stack([rig.render(row, 256, flow_size=0).image for row in motion]),
        samples=voice,
        landmarks=np.stack([rig.landmarks(row) for row in motion]) * np.float32(0.5),
    )


def moved(clip: TalkingClip, frames: int) -> TalkingClip:
    """The sound so many pictures later."""
    return replace(clip, samples=np.roll(clip.samples, frames * SAMPLES_PER_FRAME))


def test_the_packages_own_weights_are_taken_and_named():
    judges = load_judges(paths_from({}, {}))
    assert judges.weights["sync"].startswith("sync.safetensors ")
    assert not any("sync:" in line for line in judges.skipped)
    assert SHIPPED_SYNC.stat().st_size < 2_000_000
    assert (SHIPPED_SYNC.parent / "MODEL_CARD.md").is_file()


@pytest.mark.parametrize("shift_frames", [-7, 0, 6])
def test_sound_is_found_where_it_was_moved_to(shift_frames):
    offsets = [-scorer().score(moved(talking(seed), shift_frames)).offset_frames for seed in (1, 2, 3)]
    assert abs(np.median(offsets) - shift_frames) <= 1


def test_ones_own_sound_fits_better_than_anothers():
    pairs = [(talking(seed), talking(other).samples) for seed, other in ((1, 2), (2, 3), (3, 1))]
    own = [scorer().score(clip) for clip, _ in pairs]
    swapped = [scorer().score(replace(clip, samples=samples)) for clip, samples in pairs]
    assert all(mine.distance < theirs.distance for mine, theirs in zip(own, swapped, strict=True))
    assert fmean(one.confidence for one in own) > 1.3 * fmean(one.confidence for one in swapped)
