import os
import shutil
from functools import partial

import numpy as np
import pytest
import skimage.data

from tests.unit.data.animation_material import room_for
from tests.unit.rig.test_rig import face_landmarks
from tests.unit.train.material import write_sound
from vivavoz.data.corpus import prepare_portraits, prepare_speech, split
from vivavoz.data.phonemes import Phoneme
from vivavoz.errors import DataError, OutputError
from vivavoz.media.image import write_image


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three photographs of a person in different light, one of nobody, a broken one and a text."""
    folder = tmp_path_factory.mktemp("pictures")
    photograph = skimage.data.astronaut()
    (folder / "more").mkdir()
    for name, light in (("b.png", 1.0), ("a.png", 0.9), ("more/c.png", 0.8)):
        write_image(folder / name, (photograph * light).astype(np.uint8))
    write_image(folder / "nobody.png", np.full((96, 96, 3), 90, np.uint8))
    (folder / "broken.jpg").write_bytes(b"not a picture")
    (folder / "read.me").write_text("text")
    return folder


def detector(yaw=0.0, calls=None):
    def detect(image):
        assert image.shape == (512, 512, 3)
        if calls is not None:
            calls.append(float(image.mean()))
        return face_landmarks(yaw=yaw)

    return detect


def test_portraits_are_cropped_in_order_and_the_rest_is_left_out_with_reasons(pictures, tmp_path):
    news = []
    portraits = prepare_portraits(pictures, tmp_path, detect=detector(), report=news.append)
    assert portraits.names == ("a.png", "b.png", "more/c.png")
    assert portraits.images.shape == (3, 512, 512, 3)
    assert portraits.images.dtype == np.uint8
    assert portraits.landmarks.shape == (3, 478, 3)
    assert portraits.landmarks.dtype == np.float32
    assert portraits.mattes.shape == (3, 512, 512)
    assert portraits.mattes[:, 200:240, 236:276].min() == 255  # the face
    means = portraits.images.mean((1, 2, 3))
    assert means[1] > means[0] > means[2]
    assert [one.num_done for one in news] == [1, 2, 3, 4, 5]
    skipped = {one.name: one.skipped for one in news if one.skipped}
    assert set(skipped) == {"broken.jpg", "nobody.png"}
    assert "no face" in skipped["nobody.png"]


def test_a_second_run_reads_the_cache_until_a_picture_changes(pictures, tmp_path):
    calls, folder, cache = [], tmp_path / "pictures", tmp_path / "cache"
    shutil.copytree(pictures, folder)
    first = prepare_portraits(folder, cache, detect=detector(calls=calls))
    again = prepare_portraits(folder, cache, detect=detector(calls=calls))
    assert len(calls) == 3
    assert again.names == first.names
    assert np.array_equal(again.images, first.images)
    assert np.array_equal(again.landmarks, first.landmarks)
    write_image(folder / "a.png", np.ascontiguousarray(skimage.data.astronaut()[:, ::-1]))
    prepare_portraits(folder, cache, detect=detector(calls=calls))
    assert len(calls) == 6
    assert len(list(cache.iterdir())) == 2


def test_turned_heads_are_left_out(pictures, tmp_path):
    assert len(prepare_portraits(pictures, tmp_path / "a", detect=detector(yaw=-11.5)).names) == 3
    with pytest.raises(DataError, match=r"turned by 13\.0 degrees") as caught:
        prepare_portraits(pictures, tmp_path / "b", detect=detector(yaw=-13.0))
    assert "none of 5" in str(caught.value)


def test_a_missing_library_is_not_the_pictures_fault(pictures, tmp_path):
    def detect(image):
        raise DataError("no MediaPipe") from ImportError("mediapipe")

    with pytest.raises(DataError, match=r"^no MediaPipe$"):
        prepare_portraits(pictures, tmp_path, detect=detect)


def test_folders_without_material_are_refused(tmp_path):
    for prepare in (prepare_portraits, prepare_speech):
        with pytest.raises(DataError, match="is not a folder"):
            prepare(tmp_path / "missing", tmp_path / "cache")
        with pytest.raises(DataError, match="holds no"):
            prepare(tmp_path, tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_said_and_nothing_is_left(pictures, recordings, tmp_path):
    cache = tmp_path / "cache"
    for prepare in (
        partial(prepare_portraits, pictures, detect=detector()),
        partial(prepare_speech, recordings, hear=hear),
        partial(prepare_speech, recordings, hear=hear, num_processes=2),
    ):
        with room_for(2000), pytest.raises(OutputError, match=r"cannot write .*npz: File too large; give a path"):
            prepare(cache=cache)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_damaged_cache_is_named(pictures, tmp_path):
    prepare_portraits(pictures, tmp_path, detect=detector())
    (stored,) = tmp_path.iterdir()
    stored.write_bytes(stored.read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged"):
        prepare_portraits(pictures, tmp_path, detect=detector())


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "speech"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("b.wav", "a.wav", "more/c.wav"):
        write_sound(folder / name, 0.3 * rng.uniform(-1, 1, 4000))
    write_sound(folder / "silent.wav", np.zeros(4000))
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


def hear(samples, log=None, stop_after=None):
    """Two sounds that meet in the middle; a line in `log` for every recording."""
    if log is not None:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if stop_after is not None and len(log.read_text().splitlines()) > stop_after:
            raise KeyboardInterrupt
    half_s = len(samples) / 32_000
    return [Phoneme(symbol="AA", start_s=0.0, end_s=half_s), Phoneme(symbol="SIL", start_s=half_s, end_s=2 * half_s)]


def test_readers_come_in_order_with_what_they_say(recordings, tmp_path):
    news = []
    readers = prepare_speech(recordings, tmp_path / "cache", hear=hear, report=news.append)
    assert [reader.name for reader in readers] == ["a.wav", "b.wav", "more/c.wav"]
    assert readers[0].phonemes == tuple(hear(np.zeros(4000)))
    assert readers[0].samples.dtype == np.float32
    assert len(readers[0].samples) == 4000
    assert np.abs(readers[1].samples).max() == pytest.approx(0.3, abs=0.01)
    skipped = {one.name: one.skipped for one in news if one.skipped}
    assert set(skipped) == {"broken.wav", "silent.wav"}
    assert [one.num_done for one in news] == [1, 2, 3, 4, 5]


def test_a_stopped_preparation_goes_on_where_it_was(recordings, tmp_path):
    log = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        prepare_speech(recordings, tmp_path / "cache", hear=partial(hear, log=log, stop_after=2))
    readers = prepare_speech(recordings, tmp_path / "cache", hear=partial(hear, log=log))
    assert len(readers) == 3
    assert len(log.read_text().splitlines()) == 4  # two, the one it was stopped in, and that one again
    again = prepare_speech(recordings, tmp_path / "cache", hear=partial(hear, log=log))
    assert len(log.read_text().splitlines()) == 4
    for one, two in zip(readers, again, strict=True):
        assert np.array_equal(one.samples, two.samples)
        assert one.phonemes == two.phonemes


def test_processes_share_the_work(recordings, tmp_path):
    log = tmp_path / "log"
    alone = prepare_speech(recordings, tmp_path / "alone", hear=hear)
    shared = prepare_speech(recordings, tmp_path / "shared", hear=partial(hear, log=log), num_processes=2)
    assert [reader.name for reader in shared] == [reader.name for reader in alone]
    assert all(np.array_equal(one.samples, two.samples) for one, two in zip(alone, shared, strict=True))
    assert str(os.getpid()) not in log.read_text().splitlines()


def test_recordings_of_which_none_can_be_used_are_refused(tmp_path):
    (tmp_path / "speech").mkdir()
    write_sound(tmp_path / "speech" / "a.wav", np.zeros(4000))
    with pytest.raises(DataError, match=r"a\.wav is silent"):
        prepare_speech(tmp_path / "speech", tmp_path / "cache", hear=hear)


def test_the_split_is_even_over_the_sorted_names_whatever_their_order():
    names = [f"{index:03d}" for index in range(155)]
    train, held = split(names, 20)
    assert held == list(range(0, 140, 7))
    assert sorted(train + held) == list(range(155))
    mixed = list(np.random.default_rng(0).permutation(names))
    assert [mixed[i] for i in split(mixed, 20)[1]] == [names[i] for i in held]
    assert [mixed[i] for i in split(mixed, 20)[0]] == [names[i] for i in train]
    assert split(names, 20) == (train, held)
    assert split([f"{index:03d}" for index in range(251)], 30)[1] == list(range(0, 240, 8))


def test_of_few_at_most_a_seventh_is_held_back():
    assert split(["b", "a"], 20) == ([1, 0], [])
    assert len(split([str(index) for index in range(14)], 20)[1]) == 2
    assert split([], 3) == ([], [])
    assert split([str(index) for index in range(30)], 0)[1] == []
