"""The weights of `vivavoz CAPP` that come with the package, on a drawn face that moves its head to made-up speech."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from tests.unit.evaluate.material import drawn_portrait
from tests.unit.evaluate.videos.test_shipped_sync import vowel
from vivavoz.data.performance import perform
from vivavoz.evaluate.videos.capp import Capp
from vivavoz.evaluate.videos.clips import TalkingClip
from vivavoz.evaluate.videos.judges import SHIPPED_CAPP, load_judges, paths_from
from vivavoz.evaluate.videos.scoring import score_alone
from vivavoz.timing import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

NUM_FRAMES = 150


@cache
def encoders() -> Capp:
    found = load_judges(paths_from({}, {})).capp
    assert found is not None
    return found


@cache
def speaking(seed: int) -> TalkingClip:
    """Six seconds of vowels, one in three of them stressed, and a head that nods to them; its pictures are not looked at."""
    rng = np.random.default_rng(seed)
    samples = 0.001 * rng.standard_normal(NUM_FRAMES * SAMPLES_PER_FRAME)
    at = 2000
    while at < len(samples) - SAMPLE_RATE_HZ // 2:
        length = int(rng.integers(1600, 4000))
        stressed = rng.random() < 0.35
        samples[at : at + length] += (0.4 if stressed else 0.1) * vowel(str(rng.choice(["AA", "IY", "EH"])), length, rng)
        at += length + int(rng.integers(400, 5000))
    voice = samples.astype(np.float32)
    rig = drawn_portrait().rig()
    return TalkingClip(
        name=f"drawn {seed}",
        frames=np.zeros((NUM_FRAMES, 8, 8, 3), np.uint8),
        samples=voice,
        landmarks=np.stack([rig.landmarks(row) for row in perform(voice, seed=seed, phonemes=()).motion]),
    )


def test_the_packages_own_weights_are_taken_and_named():
    judges = load_judges(paths_from({}, {}))
    assert judges.weights["capp"].startswith("capp.safetensors ")
    assert not any("CAPP" in line for line in judges.skipped)
    assert SHIPPED_CAPP.stat().st_size < 2_000_000
    assert (SHIPPED_CAPP.parent / "MODEL_CARD.md").is_file()
    assert -1 <= score_alone(speaking(0), judges).scores["own_capp"] <= 1


def test_ones_own_voice_fits_the_head_better_than_anothers():
    clips = [speaking(seed) for seed in range(6)]
    scores = np.array([[encoders().score(replace(clip, samples=other.samples)) for other in clips] for clip in clips])
    own, others = scores.diagonal(), scores[~np.eye(len(clips), dtype=bool)]
    assert own.mean() > others.mean() + 0.15
    assert (own[:, None] > scores).sum() > 0.8 * len(others)


def test_a_head_that_rests_says_nothing_of_the_voice():
    clips = [speaking(seed) for seed in range(6)]
    trembling = np.random.default_rng(0).normal(0, 0.3, (NUM_FRAMES, 1, 3))
    resting = [replace(clip, landmarks=(clip.points()[:1] + trembling).astype(np.float32)) for clip in clips]
    torch.manual_seed(0)
    scores = np.array([[encoders().score(replace(clip, samples=other.samples)) for other in clips] for clip in resting])
    assert 0.3 < (scores.diagonal()[:, None] > scores).sum() / (len(clips) * (len(clips) - 1)) < 0.7
