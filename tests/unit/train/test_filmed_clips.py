from functools import partial
from itertools import islice

import cv2
import numpy as np
import pytest
import torch

from tests.unit.data.shards.material import make_clip
from tests.unit.train.material import clip_config, portraits
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.shards.reading import ShardWindows, WindowConfig
from vivavoz.errors import DataError
from vivavoz.train.clips import EYES, IRISES, MOUTH, AnimatedClips, Clips, face_region
from vivavoz.train.filmed_clips import FilmedClips, FilmedConfig, FilmedWindows, MixedClips

CONFIG = FilmedConfig(size=64, batch_size=2, reference_odds=(0.0, 0.5, 0.5), odds=0.5, seed=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two clips of Anna to train on, one of Bo that is held back."""
    folder = str(tmp_path_factory.mktemp("corpus"))
    train = partial(make_clip, split="train", num_frames=9)
    clips = [train("anna-1"), train("anna-2"), make_clip("bo-1", identity="bo", num_frames=9, split="test")]
    Manifest(shards=(write_shard(f"{folder}/one.tar", clips),)).save(folder)
    return folder


def equal(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("frames", "references", "region"))


def test_a_batch_is_a_function_of_its_number(corpus):
    windows = FilmedWindows(corpus, CONFIG)
    batches = [windows[index] for index in range(6)]
    assert {batch.references.shape[1] for batch in batches} == {1, 2}
    for batch in batches:
        assert batch.frames.shape == (2, 1, 64, 64, 3)
        assert batch.references.shape == (2, batch.references.shape[1], 64, 64, 3)
        assert batch.frames.dtype == batch.references.dtype == torch.uint8
        assert batch.region.shape == (2, 1, 1, 32, 32)
        assert set(batch.region.unique().tolist()) <= {0, EYES, MOUTH, IRISES}
    assert equal(batches[4], FilmedWindows(corpus, CONFIG)[4])
    assert not equal(batches[3], batches[4])


def test_pictures_and_regions_are_mirrored_together(corpus):
    windows = FilmedWindows(corpus, CONFIG)
    config = WindowConfig(batch_size=2, num_frames=1, reference_odds=CONFIG.reference_odds, seed=CONFIG.seed)
    stored, mirrored = ShardWindows(corpus, config), []
    for index in range(8):
        batch, truth = windows[index], stored[index]
        for row in range(2):
            own = cv2.resize(truth.frames[row, 0].numpy(), (64, 64), interpolation=cv2.INTER_AREA)
            mouth = face_region(truth.landmarks[row, 0, :, :2].numpy() / 4, 64)
            likeness = [np.corrcoef(batch.frames[row, 0].ravel(), view.ravel())[0, 1] for view in (own, own[:, ::-1])]
            mirrored.append(likeness[1] > likeness[0])
            assert max(likeness) > 0.95
            assert np.array_equal(batch.region[row, 0, 0], mouth[:, ::-1] if mirrored[-1] else mouth)
    assert {True, False} == set(mirrored)


def test_mixed_batches_are_filmed_as_often_as_told(corpus):
    animated, filmed = AnimatedClips(portraits(), clip_config()), FilmedWindows(corpus, CONFIG)
    mixed = MixedClips(animated, filmed)
    batches = [mixed[index] for index in range(40)]
    assert 12 <= sum(isinstance(batch, FilmedClips) for batch in batches) <= 28
    assert all(equal(batch, (filmed if isinstance(batch, FilmedClips) else animated)[i]) for i, batch in enumerate(batches))
    later = list(islice(mixed.batches()(37), 3))
    assert all(equal(one, other) for one, other in zip(batches[37:], later, strict=True))
    assert {type(batch) for batch in batches} == {Clips, FilmedClips}


def test_a_corpus_without_training_clips_is_refused(tmp_path):
    clips = [make_clip("bo-1", identity="bo", num_frames=9, split="test")]
    Manifest(shards=(write_shard(f"{tmp_path}/one.tar", clips),)).save(str(tmp_path))
    with pytest.raises(DataError, match="0 train clips"):
        FilmedWindows(str(tmp_path), CONFIG)
