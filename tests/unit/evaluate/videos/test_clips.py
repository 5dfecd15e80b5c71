from fractions import Fraction

import numpy as np
import pytest

from tests.unit.data.shards.material import frame_of, make_clip
from tests.unit.evaluate.videos.material import SIZE_PX, talking_clip
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.manifest import Manifest
from vivavoz.errors import DataError
from vivavoz.evaluate.videos.clips import head_crop, read_clip, read_stored, stored_clips
from vivavoz.media.video import VideoWriter


def write_video(path, num_frames, frame_rate=25, sound=True):
    """Frames whose level is their number; a click of sound where frame 10 is at 25 a second."""
    with VideoWriter(path, (64, 64), audio_rate_hz=16_000 if sound else None, frame_rate=Fraction(frame_rate)) as writer:
        for i in range(num_frames):
            writer.write_frame(np.full((64, 64, 3), 8 * (i % 30), np.uint8))
        if sound:
            samples = np.zeros(16_000 * num_frames // frame_rate, np.float32)
            samples[6400:6500] = 0.5
            writer.write_samples(samples)


def test_a_file_is_read_whole_with_its_sound(tmp_path):
    write_video(tmp_path / "talk.mp4", 28)
    clip = read_clip(tmp_path / "talk.mp4")
    assert clip.name == "talk"
    assert clip.frames.shape == (28, 64, 64, 3)
    assert len(clip.samples) == 28 * 640
    assert clip.landmarks is None
    assert np.abs(clip.frames.mean((1, 2, 3)) - 8 * np.arange(28)).max() < 3
    assert 6300 < np.abs(clip.samples).argmax() < 6600
    short = clip.cut(5)
    assert (len(short.frames), len(short.samples)) == (5, 3200)


def test_other_frame_rates_keep_their_time(tmp_path):
    write_video(tmp_path / "fast.mp4", 30, frame_rate=50)
    levels = read_clip(tmp_path / "fast.mp4").frames.mean((1, 2, 3))
    assert len(levels) == 15
    assert np.abs(levels - 16 * np.arange(15)).max() < 10  # every second picture, or its neighbour


def test_landmarks_come_from_neighbours_where_a_picture_has_none(tmp_path):
    write_video(tmp_path / "talk.mp4", 6)
    found = iter([np.full((478, 3), value, np.float32) if value else None for value in (0, 10, 20, 0, 40, 50)])
    clip = read_clip(tmp_path / "talk.mp4", lambda _: next(found))
    assert clip.landmarks[:, 0, 0].tolist() == [10, 10, 20, 30, 40, 50]
    assert read_clip(tmp_path / "talk.mp4", lambda _: None).landmarks is None


def test_a_video_without_sound_has_no_samples(tmp_path):
    write_video(tmp_path / "mute.mp4", 4, sound=False)
    assert len(read_clip(tmp_path / "mute.mp4").samples) == 0


@pytest.fixture
def corpus(tmp_path):
    clips = [make_clip(f"anna-{i}", num_frames=6) for i in range(2)]
    shard = write_shard(str(tmp_path / "a.tar"), clips)
    Manifest(shards=(shard,)).save(str(tmp_path))
    return str(tmp_path)


def test_clips_of_a_corpus_come_in_both_sizes(corpus):
    (shard, stored), _ = stored_clips(corpus)
    large, small = read_stored(corpus, shard, stored), read_stored(corpus, shard, stored, 256)
    assert large.frames.shape == (6, 512, 512, 3)
    assert small.frames.shape == (6, 256, 256, 3)
    assert [frame_of(image) for image in small.frames] == list(range(6))
    np.testing.assert_allclose(small.landmarks, large.landmarks / 2)
    assert len(large.samples) == 6 * 640
    with pytest.raises(DataError, match="cannot read"):
        list(stored_clips(corpus + "/nothing"))


def test_the_head_crop_holds_the_face_and_moves_its_landmarks():
    clip = talking_clip(3)
    crop = head_crop(clip)
    assert crop.frames.shape == clip.frames.shape
    left, top, right, bottom = crop.face_boxes()[0]
    assert bottom - top == pytest.approx(SIZE_PX / 1.5, rel=1e-3)
    assert (left + right) / 2 == pytest.approx(SIZE_PX / 2, abs=1)
    assert (top + bottom) / 2 == pytest.approx(SIZE_PX / 2, abs=1)
    # The picture under a landmark is the one that was there before.
    before, after = clip.points()[0, 4, :2], crop.points()[0, 4, :2]
    old = clip.frames[0, round(float(before[1])), round(float(before[0]))].astype(int)
    new = crop.frames[0, round(float(after[1])), round(float(after[0]))].astype(int)
    assert np.abs(old - new).max() < 12
