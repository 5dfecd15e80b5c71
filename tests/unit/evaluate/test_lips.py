import math

import numpy as np
import pytest
import torch

from tests.models import tiny_model
from tests.unit.evaluate.material import babble, drawn_portrait, material
from tests.unit.rig.test_rig import face_landmarks
from vivavoz.evaluate.lips import Lips, LipsConfig, PairScores, evaluate_lips, opening_of_latents, summarise
from vivavoz.evaluate.mouth import LipScores
from vivavoz.rig.labels import LABELS, in_units
from vivavoz.train.label_latents import LabelLatents


def test_opening_is_read_back_from_label_latents():
    labels = drawn_portrait().rig().labels(babble().motion)
    latents = LabelLatents(len(LABELS), 66)(torch.from_numpy(labels)[None], 2, 2)
    truth = in_units(labels, "opening")
    read = opening_of_latents(latents, len(truth))
    assert np.abs(read - truth).max() < 0.25 * truth.std() + 0.01
    assert np.corrcoef(read, truth)[0, 1] > 0.97


def test_pairs_are_scored_with_and_without_pictures():
    config = LipsConfig(num_pairs=2, num_frames=21, num_ruler_pairs=1, num_samples=1, pictures_per_sample=3)
    gaps = iter(np.random.default_rng(0).uniform(0, 0.1, 1000))
    found, samples = evaluate_lips(tiny_model(), material(), config, lambda image: face_landmarks(gap=next(gaps)))
    first, second = found.pairs
    assert first.truth.r == pytest.approx(1)
    assert first.ruler is not None
    assert second.ruler is None
    assert first.video is not None
    assert abs(first.video.r) < 0.9  # lips at random
    (sample,) = samples
    assert sample.moments == (0, 10, 20)
    assert sample.generated[0].shape == sample.performed[0].shape == (64, 64, 3)
    silent, _ = evaluate_lips(tiny_model(), material(), LipsConfig(num_pairs=1, num_frames=13), None)
    (pair,) = silent.pairs
    assert pair.video is None
    assert pair.latents is not None


def scores(r, lag=0, closures=1):
    return LipScores(
        r=r, best_r=r, best_lag_frames=lag, closures=closures, bilabials=4, deviation_speech=0.02, deviation_silence=float("nan")
    )


def test_summary_counts_closures_together_and_leaves_out_what_is_missing():
    summary = summarise([scores(0.5, 1, 0), None, scores(0.7, 2, 3), scores(float("nan"), 2, 3)])
    assert summary is not None
    assert summary.num_pairs == 3
    assert summary.r == pytest.approx(0.6)
    assert summary.best_lag_frames == 2
    assert summary.closure == pytest.approx(0.5)
    assert math.isnan(summary.deviation_silence)
    assert summarise([None]) is None


def test_summaries_leave_out_mouths_that_nobody_measured():
    pair = PairScores(portrait="a", speech="b", video=None, latents=None, loudness=scores(0.5), truth=scores(1.0), ruler=None)
    assert {name: row.r for name, row in Lips(pairs=(pair, pair)).summaries().items()} == {"loudness": 0.5, "truth": 1.0}
