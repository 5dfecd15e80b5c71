from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.evaluate.material import babble, drawn_portrait
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.clip import Clip, ClipInfo
from vivavoz.data.shards.manifest import Manifest
from vivavoz.errors import ConfigError, DataError
from vivavoz.evaluate.clips import ClipsConfig, evaluate_clips, read_clips
from vivavoz.train.perceptual import choose_perceptual
from vivavoz.vae.config import tiny_vae_config
from vivavoz.vae.vae import VAE

NUM_FRAMES = 12
CONFIG = ClipsConfig(num_clips=2, num_frames=5, size=64)


def drawn_clip(key, identity, split):
    """A face whose jaw swings."""
    rig, rows = drawn_portrait().rig(), babble().motion[:NUM_FRAMES]
    return Clip(
        info=ClipInfo(key=key, identity=identity, source="drawn", licence="CC0", split=split, num_frames=NUM_FRAMES),
        frames=np.stack([rig.render(row, 512, flow_size=0).image for row in rows]),
        samples=np.zeros(640 * NUM_FRAMES, np.float32),
        landmarks=np.stack([rig.landmarks(row) for row in rows]),
        labels={},
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    clips = [
        drawn_clip(name, name[0], split)
        for name, split in (("a1", "test"), ("b1", "train"), ("a2", "test"), ("a3", "test"), ("a4", "test"))
    ]
    shard = write_shard(str(folder / "clips.tar"), clips)
    assert shard is not None
    Manifest(shards=(shard,)).save(str(folder))
    return str(folder)


def test_windows_of_people_held_back_come_with_references_from_both_sides(corpus):
    held = read_clips(corpus, CONFIG, held_only=True)
    assert (held.corpus, held.num_people) == (Path(corpus).name, 1)
    assert held.keys == ("a1", "a3")  # of four, at even distances; b was trained on
    first = held.clips[0]
    assert first.frames.shape == (5, 64, 64, 3)
    assert {source: len(pictures) for source, pictures in first.references.items()} == {"same clip": 3, "other clips": 3}
    assert 0.002 < first.mouth.mean() < 0.05
    rig = drawn_portrait().rig()
    opening = rig.render(babble().motion[0], 64).image
    assert np.abs(first.references["same clip"][0].astype(int) - opening).mean() < 6  # the first frame, through a codec


def test_copying_scores_as_copying_does(corpus):
    torch.manual_seed(0)
    held = read_clips(corpus, CONFIG)
    found, samples = evaluate_clips(VAE(tiny_vae_config(warp=True)).eval(), held, choose_perceptual(), (0, 1))
    rows = {(row.source, row.is_copy, row.num_references): row.score for row in found.fidelities}
    assert set(rows) == {(s, c, n) for s in ("same clip", "other clips") for c, n in ((True, 1), (False, 0), (False, 1))}
    errors = [np.square(clip.frames / 255 - clip.references["same clip"][:1] / 255).mean((1, 2, 3)) for clip in held.clips]
    assert rows["same clip", True, 1].psnr_db == pytest.approx(float((-10 * np.log10(np.concatenate(errors))).mean()), abs=1e-3)
    # An untrained warp shows the first reference itself, but for a little of the painted layer.
    assert rows["same clip", False, 1].psnr_db == pytest.approx(rows["same clip", True, 1].psnr_db, abs=3)
    assert rows["same clip", False, 0] == rows["other clips", False, 0]  # nothing is looked at
    assert [(sample.name, sample.counts, len(sample.decoded)) for sample in samples] == [("a1", (0, 1), 2), ("a3", (0, 1), 2)]


def test_clips_that_are_too_short_are_refused(corpus):
    with pytest.raises(DataError, match="none of 16 frames"):
        read_clips(corpus, ClipsConfig(num_frames=13, size=64))
    with pytest.raises(ConfigError, match="got 0 clips"):
        ClipsConfig(num_clips=0)


def test_people_who_were_trained_on_are_taken_where_nobody_else_is_and_it_is_not_forbidden(tmp_path):
    shard = write_shard(str(tmp_path / "clips.tar"), [drawn_clip("b1", "b", "train")])
    Manifest(shards=(shard,)).save(str(tmp_path))
    held = read_clips(str(tmp_path), CONFIG)
    assert held.keys == ("b1",)
    assert set(held.clips[0].references) == {"same clip"}  # there are no others
    with pytest.raises(DataError, match="held back"):
        read_clips(str(tmp_path), CONFIG, held_only=True)
