import numpy as np
import pytest
import torch

from tests.unit.evaluate.material import babble, drawn_portrait
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.clip import Clip, ClipInfo
from vivavoz.data.shards.manifest import Manifest
from vivavoz.errors import DataError
from vivavoz.evaluate.clips import ClipsConfig, evaluate_clips, read_clips
from vivavoz.train.perceptual import choose_perceptual
from vivavoz.vae.config import tiny_vae_config
from vivavoz.vae.vae import VAE

NUM_FRAMES = 12
CONFIG = ClipsConfig(num_clips=2, num_frames=5, size=64, reference_counts=(1, 2))


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
        drawn_clip(name, name[0], split) for name, split in (("a1", "test"), ("b1", "train"), ("a2", "test"), ("a3", "test"))
    ]
    shard = write_shard(str(folder / "clips.tar"), clips)
    assert shard is not None
    Manifest(shards=(shard,)).save(str(folder))
    return str(folder)


def test_windows_of_people_held_back_come_with_references_from_both_sides(corpus):
    clips, num_people = read_clips(corpus, CONFIG)
    assert num_people == 1
    assert [clip.key for clip in clips] == ["a1", "a2"]  # of three, at even distances; b was trained on
    first = clips[0]
    assert first.frames.shape == (5, 64, 64, 3)
    assert {source: len(pictures) for source, pictures in first.references.items()} == {"same clip": 2, "other clips": 2}
    assert 0.002 < first.mouth.mean() < 0.05
    rig = drawn_portrait().rig()
    opening = rig.render(babble().motion[0], 64).image
    assert np.abs(first.references["same clip"][0].astype(int) - opening).mean() < 6  # the first frame, through a codec


def test_copying_scores_as_copying_does(corpus):
    torch.manual_seed(0)
    clips, num_people = read_clips(corpus, CONFIG)
    found, samples = evaluate_clips(VAE(tiny_vae_config(warp=True)).eval(), clips, CONFIG, choose_perceptual(), num_people)
    rows = {(row.source, row.is_copy, row.num_references): row.score for row in found.fidelities}
    assert set(rows) == {(s, c, n) for s in ("same clip", "other clips") for c, n in ((True, 1), (False, 1), (False, 2))}
    errors = [np.square(clip.frames / 255 - clip.references["same clip"][:1] / 255).mean((1, 2, 3)) for clip in clips]
    assert rows["same clip", True, 1].psnr_db == pytest.approx(float((-10 * np.log10(np.concatenate(errors))).mean()), abs=1e-3)
    # An untrained warp shows the first reference itself, but for a little of the painted layer.
    assert rows["same clip", False, 1].psnr_db == pytest.approx(rows["same clip", True, 1].psnr_db, abs=3)
    assert set(samples[0].decoded) == {1, 2}


def test_clips_that_are_too_short_are_refused(corpus):
    with pytest.raises(DataError, match="none of 13 frames"):
        read_clips(corpus, ClipsConfig(num_frames=13, size=64))
