import dataclasses
import tarfile
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch

from tests.unit.data.shards.material import frame_of, make_clip
from vivavoz.data.shards import reading
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.clip import LABELS
from vivavoz.data.shards.codec import decode_arrays, decode_frames, decode_info, decode_sound
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.shards.reading import ShardWindows, WindowConfig, window_loader
from vivavoz.data.shards.storage import read_bytes
from vivavoz.errors import ConfigError, DataError

CONFIG = WindowConfig(batch_size=3, num_frames=5, reference_odds=(0.1, 0.3, 0.6), seed=7)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two shards: two clips of Anna, one of Bo, one too short for a window, and one that is held back."""
    folder = str(tmp_path_factory.mktemp("corpus"))
    train = partial(make_clip, split="train")
    first = [train("anna-1", num_frames=14), train("anna-2", num_frames=9)]
    second = [
        train("bo-1", identity="bo", num_frames=13, without=("expression", "gaze")),
        train("anna-3", num_frames=4),
        make_clip("cy-1", identity="cy", num_frames=5, split="test"),
    ]
    shards = [write_shard(f"{folder}/{name}.tar", clips) for name, clips in (("one", first), ("two", second))]
    Manifest(shards=tuple(shards)).save(folder)
    return folder


@pytest.fixture(scope="module")
def batches(corpus):
    return list(islice(window_loader(ShardWindows(corpus, CONFIG)), 12))


def equal(one, other):
    """Whether two batches are the same to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if dataclasses.is_dataclass(one):
        return all(equal(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    return one == other


def test_a_batch_is_typed_and_shaped(batches):
    for batch in batches:
        num_references = batch.references.shape[1]
        assert batch.frames.shape == (3, 5, 256, 256, 3)
        assert batch.references.shape == (3, num_references, 256, 256, 3)
        assert batch.frames.dtype == batch.references.dtype == torch.uint8
        assert batch.samples.shape == (3, 5 * 640)
        assert batch.landmarks.shape == (3, 5, 478, 3)
        assert batch.reference_landmarks.shape == (3, num_references, 478, 3)
        assert batch.labels.state.dtype == batch.labels.phoneme.dtype == torch.int64
        assert batch.labels.head_pose.shape == (3, 5, 3)
    assert {batch.references.shape[1] for batch in batches} == {0, 1, 2}


def test_pictures_sound_landmarks_and_labels_are_of_the_same_moment(batches):
    tone = make_clip(num_frames=14).samples
    landmarks = make_clip(num_frames=14).landmarks
    for batch in batches:
        for row, first in enumerate(batch.first_frames):
            expected = list(range(first, first + 5))
            assert [frame_of(frame) for frame in batch.frames[row].numpy()] == expected
            assert batch.labels.phoneme[row].tolist() == expected
            assert batch.labels.blink[row, :, 1].tolist() == pytest.approx([index / 100 for index in expected])
            assert np.allclose(batch.samples[row], tone[first * 640 : (first + 5) * 640], atol=1e-4)
            assert np.allclose(batch.landmarks[row], landmarks[first : first + 5] / 2, atol=1 / 64)


def test_windows_are_to_the_bit_what_their_clips_hold(corpus, batches):
    clips = {}
    for shard in Manifest.load(corpus).shards:
        with tarfile.open(f"{corpus}/{shard.name}") as archive:
            for clip in shard.clips:
                clips[clip.info.key] = {
                    suffix: archive.extractfile(f"{clip.info.key}.{suffix}").read() for suffix in clip.members
                }
    for batch in batches[:4]:
        for row, (key, first) in enumerate(zip(batch.keys, batch.first_frames, strict=True)):
            info, arrays = decode_info(clips[key]["json"]), decode_arrays(clips[key]["npz"], key)
            frames = decode_frames(clips[key]["256.mp4"], range(info.num_frames), key)
            assert np.array_equal(batch.frames[row], frames[first : first + 5])
            assert np.array_equal(batch.samples[row], decode_sound(clips[key]["flac"], key)[first * 640 : (first + 5) * 640])
            assert np.array_equal(batch.landmarks[row], arrays["landmarks"][first : first + 5] / 2)
            for place, other in enumerate(batch.reference_keys[row]):
                frames = decode_frames(clips[other]["256.mp4"], range(decode_info(clips[other]["json"]).num_frames), other)
                assert any(np.array_equal(batch.references[row, place], frame) for frame in frames)


def test_a_window_and_references_of_its_clip_are_fetched_together(corpus, monkeypatch):
    fetched = []
    monkeypatch.setattr(reading, "read_bytes", lambda *span: fetched.append(span) or read_bytes(*span))
    config = dataclasses.replace(CONFIG, batch_size=1, reference_odds=(0, 0, 1), other_clip_odds=0.0)
    assert ShardWindows(corpus, config)[0].references.shape[1] == 2
    assert len(fetched) == 1


def test_references_are_of_the_same_person_from_this_and_other_clips(batches):
    own = other = 0
    for batch in batches:
        for row, key in enumerate(batch.keys):
            for place, reference in enumerate(batch.reference_keys[row]):
                assert reference.split("-")[0] == key.split("-")[0]
                own, other = own + (reference == key), other + (reference != key)
                at = frame_of(batch.references[row, place].numpy())
                drift = float((batch.reference_landmarks[row, place] - batch.reference_landmarks.new_tensor(0)).mean())
                assert drift * 2 == pytest.approx(make_clip(num_frames=14).landmarks[at].mean(), abs=0.1)
    assert own > 5
    assert other > 5


def test_labels_that_a_clip_lacks_are_marked(batches):
    names = list(LABELS)
    for batch in batches:
        for row, key in enumerate(batch.keys):
            lacking = {name for name, present in zip(names, batch.labels.present[row].tolist(), strict=True) if not present}
            assert lacking == ({"expression", "gaze"} if key == "bo-1" else set())
            if lacking:
                assert not batch.labels.gaze[row].any()


def test_every_epoch_goes_once_through_the_clips_of_the_split_that_are_long_enough(batches):
    for batch in batches:
        assert sorted(batch.keys) == ["anna-1", "anna-2", "bo-1"]
    assert len({batch.keys for batch in batches}) > 1
    assert len({first for batch in batches for first in batch.first_frames}) > 5


def test_workers_restarts_and_machines_change_nothing(corpus, batches):
    windows = ShardWindows(corpus, CONFIG)
    workers = list(islice(window_loader(windows, num_workers=2), 5))
    assert all(equal(one, other) for one, other in zip(workers, batches, strict=False))
    resumed = list(islice(window_loader(windows, start=5), 3))
    assert all(equal(one, other) for one, other in zip(resumed, batches[5:], strict=False))
    for rank in (0, 1):
        share = list(islice(window_loader(windows, start=2, rank=rank, world_size=2), 3))
        assert all(equal(one, batches[4 + rank + 2 * step]) for step, one in enumerate(share))
    other_seed = ShardWindows(corpus, dataclasses.replace(CONFIG, seed=8))
    assert not all(equal(other_seed[index], batches[index]) for index in range(3))


def test_sound_can_reach_beyond_the_window_and_the_clip(corpus):
    wide = dataclasses.replace(CONFIG, sound_margin_samples=2000, arrays=False)
    tone = np.pad(make_clip(num_frames=14).samples, 2000)
    batch = ShardWindows(corpus, wide)[0]
    assert batch.labels is batch.landmarks is None
    assert batch.samples.shape == (3, 5 * 640 + 4000)
    row = batch.keys.index("anna-1")
    first = batch.first_frames[row] * 640
    assert np.allclose(batch.samples[row], tone[first : first + 7200], atol=1e-4)


def test_512_px_and_a_remote_corpus(corpus, tmp_path):
    import fsspec

    fsspec.filesystem("memory").put(corpus, "/remote", recursive=True)
    batch = ShardWindows("memory://remote", dataclasses.replace(CONFIG, size_px=512, batch_size=1))[0]
    assert batch.frames.shape == (1, 5, 512, 512, 3)
    assert frame_of(batch.frames[0, 0].numpy()) == batch.first_frames[0]
    local = ShardWindows(corpus, dataclasses.replace(CONFIG, size_px=512, batch_size=1))[0]
    assert equal(batch, local)


def test_what_cannot_be_read_is_said(corpus):
    with pytest.raises(DataError, match=r"1 test clips, none of 9 frames"):
        ShardWindows(corpus, dataclasses.replace(CONFIG, split="test", num_frames=9))
    with pytest.raises(ConfigError, match=r"windows of 8 frames, expected 1 \+ 4n"):
        WindowConfig(num_frames=8)
    with pytest.raises(ConfigError, match="size_px 128"):
        WindowConfig(size_px=128)
