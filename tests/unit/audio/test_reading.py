import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vivavoz.audio.reading import is_silent, read_audio
from vivavoz.audio.resample import StreamingResampler, resampled_length
from vivavoz.errors import AudioError


def speechlike(num_samples: int, rate_hz: int) -> np.ndarray:
    """Two slowly swelling tones, (N,) float32: survives lossy codecs, and shows a shift in time."""
    time_s = np.arange(num_samples) / rate_hz
    tones = np.sin(2 * np.pi * 310 * time_s) + np.sin(2 * np.pi * 1170 * time_s)
    return (0.2 * tones * (1.2 + np.sin(2 * np.pi * 3.7 * time_s))).astype(np.float32)


def write_sound(path: Path, samples: np.ndarray, rate_hz: int, codec: str, sample_format: str, layout: str) -> None:
    """samples: (C, N) in the codec's own number format."""
    planar = sample_format.endswith("p")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        stream.bit_rate = 192_000
        stream.codec_context.format = sample_format
        for start in range(0, samples.shape[1], 960):
            block = samples[:, start : start + 960]
            block = block if planar else block.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format=sample_format, layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = 16000) -> None:
    """samples: (N,) int16."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())


def write_silent_video(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))


def test_sixteen_khz_mono_wav_is_exact(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    write_wav(tmp_path / "a.wav", samples)
    sound = read_audio(tmp_path / "a.wav")
    assert sound.dtype == np.float32
    np.testing.assert_array_equal(sound, samples / np.float32(32768))


@pytest.mark.parametrize(
    ("codec", "sample_format", "scale", "offset", "dtype"),
    [
        ("pcm_u8", "u8", 127, 128, np.uint8),
        ("pcm_s16le", "s16", 32767, 0, np.int16),
        ("pcm_s32le", "s32", 2**31 - 200, 0, np.int32),
        ("pcm_f32le", "flt", 1, 0, np.float32),
        ("pcm_f64le", "dbl", 1, 0, np.float64),
        ("flac", "s16", 32767, 0, np.int16),
    ],
)
def test_sample_formats(tmp_path: Path, codec: str, sample_format: str, scale: float, offset: float, dtype: type) -> None:
    samples = speechlike(4800, 16000)
    path = tmp_path / ("a.flac" if codec == "flac" else "a.wav")
    scaled = samples.astype(np.float64)[None] * scale + offset
    scaled = scaled.round() if np.issubdtype(dtype, np.integer) else scaled
    write_sound(path, scaled.astype(dtype), 16000, codec, sample_format, "mono")
    np.testing.assert_allclose(read_audio(path), samples, atol=0.6 / 127 + 0.008 if codec == "pcm_u8" else 1e-4)


@pytest.mark.parametrize(
    ("name", "codec", "sample_format", "rate_hz"),
    [
        ("a.mp3", "libmp3lame", "fltp", 44100),
        ("a.m4a", "aac", "fltp", 44100),
        ("a.mp4", "aac", "fltp", 48000),
        ("a.ogg", "libopus", "flt", 48000),
        ("a.webm", "libopus", "flt", 48000),
    ],
)
def test_lossy_files_come_out_in_time_and_in_full(
    tmp_path: Path, name: str, codec: str, sample_format: str, rate_hz: int
) -> None:
    left, right = speechlike(rate_hz, rate_hz), speechlike(rate_hz, rate_hz)[::-1]
    write_sound(tmp_path / name, np.stack([left, right]), rate_hz, codec, sample_format, "stereo")
    resampler = StreamingResampler(rate_hz, 2)
    expected = np.concatenate([resampler.push(np.stack([left, right], axis=1)), resampler.flush()])
    sound = read_audio(tmp_path / name)
    assert 0 <= len(sound) - 16000 < 500  # a codec may round the end up to its own frame
    sound = sound[:16000]
    inner = slice(1000, 15000)
    products = [float(np.dot(sound[inner], expected[1000 + shift : 15000 + shift])) for shift in range(-20, 21)]
    assert int(np.argmax(products)) - 20 == 0
    assert np.corrcoef(sound[inner], expected[inner])[0, 1] > 0.98


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 44100, 48000, 96000])
def test_rates_keep_the_duration(tmp_path: Path, rate_hz: int) -> None:
    samples = speechlike(12345, rate_hz)
    write_wav(tmp_path / "a.wav", samples * 32767, rate_hz)
    sound = read_audio(tmp_path / "a.wav")
    assert len(sound) == resampled_length(12345, rate_hz)
    expected = speechlike(len(sound), 16000)
    np.testing.assert_allclose(sound[200:-200], expected[200:-200], atol=2e-3)


def test_channels_are_averaged_and_full_scale_is_clipped(tmp_path: Path) -> None:
    samples = np.stack([np.full(1600, 0.5, np.float32), np.full(1600, -0.25, np.float32)])
    write_sound(tmp_path / "a.wav", samples, 16000, "pcm_f32le", "flt", "stereo")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), np.full(1600, 0.125, np.float32))
    write_sound(tmp_path / "b.wav", np.full((1, 1600), 1.5, np.float32), 16000, "pcm_f32le", "flt", "mono")
    np.testing.assert_array_equal(read_audio(tmp_path / "b.wav"), np.ones(1600, np.float32))


def test_awkward_file_names(tmp_path: Path) -> None:
    for name in ("pipe:0.wav", "50%d é [1].wav", "http:x.wav"):
        write_wav(tmp_path / name, np.ones(1600))
        assert len(read_audio(str(tmp_path / name))) == 1600


def test_silence_is_legal_and_recognised(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(1600))
    assert is_silent(read_audio(tmp_path / "a.wav"))
    write_wav(tmp_path / "dither.wav", np.arange(1600) % 3 - 1)
    assert is_silent(read_audio(tmp_path / "dither.wav"))
    write_wav(tmp_path / "quiet.wav", np.arange(1600) % 5 - 2)
    assert not is_silent(read_audio(tmp_path / "quiet.wav"))
    assert is_silent(np.zeros(0, np.float32))


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    cases: dict[str, str] = {"missing.wav": "does not exist", "empty.wav": "empty \\(0 bytes\\)", "text.wav": "cannot be read"}
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not a sound\n" * 100)
    (tmp_path / "folder").mkdir()
    cases["folder"] = "is a folder"
    write_silent_video(tmp_path / "video.mp4")
    cases["video.mp4"] = "no sound in it"
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    )
    cases["list.m3u8"] = "cannot be read"
    for name, message in cases.items():
        with pytest.raises(AudioError, match=message) as caught:
            read_audio(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_too_short_says_how_long_and_what_is_needed(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.ones(159))
    with pytest.raises(AudioError, match=r"9\.94 ms .* at least 10 ms"):
        read_audio(tmp_path / "a.wav")
    write_wav(tmp_path / "header.wav", np.ones(0))
    with pytest.raises(AudioError, match="holds 0 ms"):
        read_audio(tmp_path / "header.wav")
    write_wav(tmp_path / "b.wav", np.ones(160))
    assert len(read_audio(tmp_path / "b.wav")) == 160


def test_longer_than_a_day_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    # A WAV header alone that claims 25 hours: 8-bit sound at 1 kHz, on a sparse file.
    num_bytes = 25 * 3600 * 1000
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(1000)
        file.writeframes(b"")
    header = bytearray(path.read_bytes())
    header[40:44] = num_bytes.to_bytes(4, "little")
    path.write_bytes(header)
    with path.open("r+b") as file:
        file.truncate(len(header) + num_bytes)
    with pytest.raises(AudioError, match=r"lasts 25\.0 hours; at most 24"):
        read_audio(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 20000.0])
def test_samples_that_are_no_sound(tmp_path: Path, bad: float) -> None:
    samples = np.zeros((1, 16000), np.float32)
    samples[0, 9000] = bad
    write_sound(tmp_path / "a.wav", samples, 16000, "pcm_f32le", "flt", "mono")
    with pytest.raises(AudioError, match=r"not finite, or far beyond full scale, near 0\.5"):
        read_audio(tmp_path / "a.wav")


def test_a_file_broken_on_the_way_says_where(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_sound(path, (speechlike(48000, 16000) * 32767).astype(np.int16)[None], 16000, "flac", "s16", "mono")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(AudioError, match=r"broken after 1\.\d\d s"):
        read_audio(path)
