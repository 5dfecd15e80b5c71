import errno
import os
import resource
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from vivavoz.errors import DataError, OutputError
from vivavoz.media.video import VideoWriter, contact_sheet, read_video
from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

SIZE = (96, 64)
NUM_FRAMES = 30
FLASH_FRAME = 12


def flash_frames(num_frames=NUM_FRAMES):
    for index in range(num_frames):
        yield np.full((SIZE[1], SIZE[0], 3), 255 if index == FLASH_FRAME else 40, np.uint8)


def click(num_samples, at):
    """A short chirp, which AAC keeps: a click alone would smear."""
    samples = np.zeros(num_samples, np.float32)
    samples[at : at + 64] = 0.8 * np.sin(np.linspace(0, 30, 64)) * np.hanning(64)
    return samples


def lag_samples(heard, played, at, reach=480):
    """Samples by which what was heard at `at` comes later than what was played."""
    pattern = played[at : at + 200]
    scores = [float(heard[at + lag : at + lag + 200] @ pattern) for lag in range(-reach, reach)]
    return int(np.argmax(scores)) - reach


def write(path, rate_hz=SAMPLE_RATE_HZ, chunk=997):
    """A flash and a chirp at the same instant, the sound in chunks that fit nothing."""
    num_samples = NUM_FRAMES * rate_hz // FRAME_RATE
    samples = click(num_samples, FLASH_FRAME * rate_hz // FRAME_RATE)
    with VideoWriter(path, SIZE, audio_rate_hz=rate_hz) as writer:
        for index, image in enumerate(flash_frames()):
            writer.write_frame(image)
            writer.write_samples(samples[index * chunk : (index + 1) * chunk])
        writer.write_samples(samples[NUM_FRAMES * chunk :])
    return samples


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_sound_and_picture_start_and_end_together(tmp_path, suffix, rate_hz):
    path = tmp_path / f"talk{suffix}"
    played = write(path, rate_hz)
    with av.open(str(path)) as container:
        pictures = list(container.decode(video=0))
    with av.open(str(path)) as container:
        sounds = list(container.decode(audio=0))
    assert pictures[0].pts == 0
    assert abs(sounds[0].pts * sounds[0].time_base) <= Fraction(1, 1000)
    assert len(pictures) == NUM_FRAMES
    assert np.argmax([picture.to_ndarray(format="gray8").mean() for picture in pictures]) == FLASH_FRAME
    heard = np.concatenate([sound.to_ndarray()[0] for sound in sounds])
    at_48k = np.interp(np.arange(len(played) * 48_000 // rate_hz) * rate_hz / 48_000, np.arange(len(played)), played)
    lag = lag_samples(heard, at_48k, FLASH_FRAME * 48_000 // FRAME_RATE)
    assert abs(lag) <= 48  # 1 ms
    assert abs(Fraction(len(heard), 48_000) - Fraction(NUM_FRAMES, FRAME_RATE)) <= Fraction(1, FRAME_RATE)


def test_written_durations_are_equal(tmp_path):
    write(tmp_path / "talk.mp4")
    with av.open(str(tmp_path / "talk.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.duration * video.time_base == Fraction(NUM_FRAMES, FRAME_RATE)
        assert abs(audio.duration * audio.time_base - Fraction(NUM_FRAMES, FRAME_RATE)) <= Fraction(1, 1000)
        assert video.codec_context.name == "h264"
        assert video.codec_context.pix_fmt == "yuv420p"
        assert audio.codec_context.name == "aac"


@pytest.mark.parametrize("num_samples", [0, 5000, 40_000])
def test_sound_is_cut_or_filled_to_the_picture(tmp_path, num_samples):
    path = tmp_path / "talk.mp4"
    with VideoWriter(path, SIZE) as writer:
        writer.write_samples(np.full(num_samples, 0.25, np.float32))
        for image in flash_frames():
            writer.write_frame(image)
    samples = read_video(path).samples()
    expected = NUM_FRAMES * SAMPLES_PER_FRAME
    assert abs(len(samples) / 48_000 - expected / SAMPLE_RATE_HZ) < 0.001
    assert np.abs(samples[3 * num_samples + 4800 :]).max(initial=0) < 0.01


def test_reader_returns_what_was_written(tmp_path):
    path = tmp_path / "talk.mp4"
    colours = [(200, 30, 40), (20, 180, 60), (30, 50, 220), (250, 250, 250), (5, 5, 5)]
    with VideoWriter(path, SIZE, audio_rate_hz=None) as writer:
        for colour in colours:
            writer.write_frame(np.full((SIZE[1], SIZE[0], 3), colour, np.uint8))
    video = read_video(path)
    assert (video.width, video.height) == SIZE
    assert video.frame_rate == FRAME_RATE
    assert video.audio_rate_hz is None
    assert video.samples().shape == (0,)
    frames = list(video.frames())
    assert [time for time, _ in frames] == [Fraction(index, FRAME_RATE) for index in range(len(colours))]
    for (_, image), colour in zip(frames, colours, strict=True):
        assert image.dtype == np.uint8
        assert np.abs(image.reshape(-1, 3).mean(0) - colour).max() < 6


def test_samples_survive(tmp_path):
    path = tmp_path / "talk.mp4"
    played = write(path)
    heard = read_video(path).samples()
    assert abs(len(heard) - 3 * len(played)) <= 48
    assert abs(lag_samples(heard, np.repeat(played, 3), FLASH_FRAME * 1920)) <= 48


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_reader_honours_rotation(tmp_path, matrix, turns):
    path = tmp_path / "talk.mp4"
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    image[: SIZE[1] // 2, : SIZE[0] // 2] = 255
    with VideoWriter(path, SIZE, audio_rate_hz=None) as writer:
        writer.write_frame(image)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 4 + 4  # version and flags, times and ids, reserved, layer, volume
    a, b, c, d = (value * 65_536 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    video = read_video(path)
    ((_, shown),) = video.frames()
    assert shown.shape == (video.height, video.width, 3)
    assert np.abs(shown.astype(int) - np.rot90(image, turns)).mean() < 5


def write_then_raise(writer, error):
    for image in flash_frames():
        writer.write_frame(image)
    raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, FileNotFoundError])
def test_nothing_is_left_after_an_error(tmp_path, error):
    (tmp_path / "talk.mp4").write_text("what was there")
    with pytest.raises(error), VideoWriter(tmp_path / "talk.mp4", SIZE) as writer:
        write_then_raise(writer, error)
    assert [entry.name for entry in tmp_path.iterdir()] == ["talk.mp4"]
    assert (tmp_path / "talk.mp4").read_text() == "what was there"


def test_no_frames_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="no frame"):
        VideoWriter(tmp_path / "talk.mp4", SIZE).close()
    assert not list(tmp_path.iterdir())


def write_noise(path):
    rng = np.random.default_rng(0)
    with VideoWriter(path, SIZE) as writer:
        for _ in range(60):
            writer.write_frame(rng.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8))


def test_full_disk(tmp_path):
    """A limit on the size of files stands in for a disk that fills up."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=rf"talk\.mp4.*{os.strerror(errno.EFBIG)}"):
            write_noise(tmp_path / "talk.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_closing_twice_is_harmless(tmp_path):
    writer = VideoWriter(tmp_path / "talk.mp4", SIZE, audio_rate_hz=None)
    writer.write_frame(next(flash_frames()))
    writer.close()
    writer.close()
    assert len(list(read_video(tmp_path / "talk.mp4").frames())) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("talk.avi", "suffix"),
        ("talk", "suffix"),
        ("folder.mp4", "directory"),
        ("missing/talk.mp4", "no directory"),
        ("file/talk.mp4", "no directory"),
    ],
)
def test_unusable_targets(tmp_path, name, message):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=message) as caught:
        VideoWriter(tmp_path / name, SIZE)
    assert "\n" not in str(caught.value)


def test_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(OutputError, match="permission"):
        VideoWriter(tmp_path / "talk.mp4", SIZE)


def test_odd_sizes_wrong_frames_and_sound_without_a_rate(tmp_path):
    with pytest.raises(OutputError, match="even"):
        VideoWriter(tmp_path / "talk.mp4", (95, 64))
    writer = VideoWriter(tmp_path / "talk.mp4", SIZE, audio_rate_hz=None)
    with pytest.raises(OutputError, match="shape"):
        writer.write_frame(np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(OutputError, match="audio_rate_hz"):
        writer.write_samples(np.zeros(10, np.float32))


@pytest.mark.parametrize("content", [None, b"", b"this is no video " * 50])
def test_unreadable_videos(tmp_path, content):
    path = tmp_path / "talk.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="talk") as caught:
        read_video(path)
    assert "\n" not in str(caught.value)


def test_contact_sheet():
    frames = [np.full((64, 96, 3), 40 * index, np.uint8) for index in range(5)]
    sheet = contact_sheet(frames, columns=3, tile_px=48)
    assert sheet.shape == (64, 144, 3)
    assert [int(sheet[16 + 32 * (i // 3), 24 + 48 * (i % 3), 0]) for i in range(6)] == [0, 40, 80, 120, 160, 0]
    captioned = contact_sheet(frames, columns=3, tile_px=48, times_s=[Fraction(i, 25) for i in range(5)])
    assert (captioned[:32, :48] > 200).any()
    assert np.array_equal(captioned[:8], sheet[:8])
