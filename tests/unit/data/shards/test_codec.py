import io
import zipfile

import numpy as np
import pytest

from tests.unit.data.shards.material import frame_of, make_clip
from vivavoz.data.shards.clip import LABELS
from vivavoz.data.shards.codec import decode_clip, decode_frames, decode_sound, encode_clip
from vivavoz.errors import DataError


@pytest.fixture(scope="module")
def clip():
    return make_clip(crop_track_px=((1.5, 2.0, 300.0),), facts={"start_s": 0.5, "blur": 3, "voice": True, "note": "é"})


@pytest.fixture(scope="module")
def members(clip):
    return encode_clip(clip)


def test_a_clip_comes_back(clip, members):
    assert list(members) == ["json", "npz", "flac", "256.mp4", "512.mp4"]
    back = decode_clip(members)
    assert back.info == clip.info
    assert np.abs(back.samples - clip.samples).max() <= 1 / 65534 + 1e-6
    assert np.abs(back.landmarks - clip.landmarks).max() <= 1 / 64
    assert set(back.labels) == set(LABELS)
    for name, values in clip.labels.items():
        assert np.array_equal(back.labels[name], values)
        assert back.labels[name].dtype == values.dtype


def test_pictures_are_visually_lossless_at_both_sizes(clip, members):
    for size in (512, 256):
        frames = decode_frames(members[f"{size}.mp4"], range(clip.info.num_frames), "anna")
        assert frames.shape == (26, size, size, 3)
        assert [frame_of(frame) for frame in frames] == list(range(26))
    error = decode_frames(members["512.mp4"], range(26), "anna").astype(np.float32) - clip.frames
    luma = error @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    assert 10 * np.log10(255**2 / np.mean(luma**2)) > 42


@pytest.mark.parametrize("wanted", [range(1), range(11, 14), range(12, 13), range(25, 26), range(5, 26), [25, 3, 4, 3, 13, 0]])
def test_any_frames_can_be_had_without_the_rest(members, wanted):
    everything = decode_frames(members["256.mp4"], range(26), "anna")
    frames = decode_frames(members["256.mp4"], wanted, "anna")
    assert [frame_of(frame) for frame in frames] == list(wanted)
    assert np.array_equal(frames, everything[wanted])


@pytest.mark.parametrize("wanted", [range(1), range(640, 1280), range(1151, 1153), range(9000, 16_640), range(16_639, 16_640)])
def test_any_stretch_of_sound_can_be_had_without_the_rest(members, wanted):
    everything = decode_sound(members["flac"], "anna")
    assert np.array_equal(decode_sound(members["flac"], "anna", wanted), everything[wanted])


def test_what_a_clip_does_not_have_is_said(members):
    with pytest.raises(DataError, match="mp4 of clip anna has no frame 26"):
        decode_frames(members["256.mp4"], range(24, 27), "anna")
    with pytest.raises(DataError, match="flac of clip anna gave 640 samples, expected 641"):
        decode_sound(members["flac"], "anna", range(16_000, 16_641))


def test_the_same_clip_gives_the_same_bytes_whatever_the_time(clip, members):
    assert encode_clip(clip) == members
    dates = {entry.date_time for entry in zipfile.ZipFile(io.BytesIO(members["npz"])).infolist()}
    assert dates == {(1980, 1, 1, 0, 0, 0)}


def test_damaged_and_missing_members_are_named(members):
    with pytest.raises(DataError, match=r"expected flac; write the shard again"):
        decode_clip({name: content for name, content in members.items() if name != "flac"})
    for name in ("json", "npz", "flac", "512.mp4"):
        with pytest.raises(DataError):
            decode_clip({**members, name: members[name][: len(members[name]) // 3]})


def test_landmarks_far_off_are_refused(clip):
    clip.landmarks[3, 4, 0] += 1100
    with pytest.raises(DataError, match="expected under 1024"):
        encode_clip(clip)
    clip.landmarks[3, 4, 0] -= 1100
