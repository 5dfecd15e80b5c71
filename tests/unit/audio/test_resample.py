import numpy as np
import pytest

from vivavoz.audio.resample import StreamingResampler, resampled_length
from vivavoz.errors import AudioError


def resample(samples: np.ndarray, rate_hz: int, chunk_samples: int | None = None) -> np.ndarray:
    resampler = StreamingResampler(rate_hz, 1 if samples.ndim == 1 else samples.shape[1])
    step = chunk_samples or max(1, len(samples))
    pieces = [resampler.push(samples[start : start + step]) for start in range(0, len(samples), step)]
    return np.concatenate([*pieces, resampler.flush()])


def test_sixteen_khz_passes_through_exactly() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    np.testing.assert_array_equal(resample(samples, 16000, 7), samples)
    whole = (samples * 32767).astype(np.int16)
    np.testing.assert_array_equal(resample(whole, 16000, 7), whole / np.float32(32768))


def test_input_is_not_aliased() -> None:
    samples = np.zeros(100, np.float32)
    out = StreamingResampler(16000).push(samples)
    out[:] = 1
    assert not samples.any()


@pytest.mark.parametrize("rate_hz", [1000, 8000, 11025, 22050, 32000, 44100, 44101, 48000, 96000, 384000])
def test_a_tone_keeps_pitch_time_and_level(rate_hz: int) -> None:
    num_samples = rate_hz // 2
    tone_hz = 200
    out = resample(0.7 * np.sin(2 * np.pi * tone_hz * np.arange(num_samples) / rate_hz), rate_hz)
    expected = 0.7 * np.sin(2 * np.pi * tone_hz * np.arange(len(out)) / 16000)
    np.testing.assert_allclose(out[600:-600], expected[600:-600], atol=1e-3)


def test_what_sixteen_khz_cannot_hold_is_removed() -> None:
    tone = np.sin(2 * np.pi * 11000 * np.arange(24000) / 48000)
    assert np.abs(resample(tone, 48000)[100:-100]).max() < 1e-3


@pytest.mark.parametrize("rate_hz", [1000, 7919, 8000, 11025, 44100, 44101, 48000, 384000])
@pytest.mark.parametrize("num_samples", [0, 1, 2, 47, 48, 49, 441, 1000, 4410])
def test_length_is_exact_for_any_input(rate_hz: int, num_samples: int) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples)
    out = resample(samples, rate_hz, 100)
    assert len(out) == resampled_length(num_samples, rate_hz) == int(np.floor(num_samples * 16000 / rate_hz + 0.5))
    assert np.isfinite(out).all()


@pytest.mark.parametrize("rate_hz", [8000, 11025, 44100, 48000, 96000])
def test_output_never_lags_more_than_the_filter(rate_hz: int) -> None:
    resampler = StreamingResampler(rate_hz)
    num_in = num_out = 0
    lags = []
    for _ in range(100):
        num_out += len(resampler.push(np.zeros(rate_hz // 50)))
        num_in += rate_hz // 50
        lags.append(num_in * 16000 / rate_hz - num_out)
    assert min(lags[10:]) >= 0
    assert max(lags) <= 40  # 2.5 ms
    assert max(lags[10:]) - min(lags[10:]) <= 2


def test_nothing_drifts_in_ten_minutes() -> None:
    # 44101 and 16000 share no factor: the filter's phase never repeats within the test.
    rate_hz, seconds, tone_hz = 44101, 600, 50
    resampler = StreamingResampler(rate_hz)
    num_out, last = 0, np.zeros(0)
    for second in range(seconds):
        sample_indices = np.arange(second * rate_hz, (second + 1) * rate_hz)
        out = resampler.push(np.sin(2 * np.pi * ((tone_hz * sample_indices) % rate_hz) / rate_hz))
        num_out, last = num_out + len(out), out
    expected = np.sin(2 * np.pi * ((tone_hz * np.arange(num_out - len(last), num_out)) % 16000) / 16000)
    np.testing.assert_allclose(last, expected, atol=1e-3)
    assert num_out + len(resampler.flush()) == seconds * 16000


def test_an_hour_counts_exactly() -> None:
    for rate_hz in (8000, 11025, 22050, 44100, 48000, 96000):
        assert resampled_length(3600 * rate_hz, rate_hz) == 3600 * 16000


def test_channels_are_averaged() -> None:
    rng = np.random.default_rng(0)
    stereo = rng.uniform(-1, 1, (4800, 2)).astype(np.float32)
    mono = stereo.mean(axis=1, dtype=np.float64)
    np.testing.assert_allclose(resample(stereo, 48000), resample(mono, 48000), atol=1e-6)
    loud = np.full((10, 2), 32767, np.int16)
    np.testing.assert_allclose(StreamingResampler(16000, 2).push(loud), 32767 / 32768)


def test_number_formats_agree() -> None:
    whole = np.random.default_rng(0).integers(-32768, 32768, 4800).astype(np.int16)
    expected = resample(whole, 48000)
    for dtype in (np.float32, np.float64):
        np.testing.assert_allclose(resample((whole / 32768).astype(dtype), 48000), expected, atol=1e-6)
    np.testing.assert_allclose(resample((whole / 32768).astype(np.float16), 48000), expected, atol=1e-3)


def test_reset_starts_a_new_stream() -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 5000)
    resampler = StreamingResampler(44100)
    resampler.push(samples[:1234])
    resampler.flush()
    assert len(resampler.flush()) == 0
    with pytest.raises(AudioError, match="after the stream was flushed"):
        resampler.push(samples)
    resampler.reset()
    np.testing.assert_array_equal(np.concatenate([resampler.push(samples), resampler.flush()]), resample(samples, 44100))


@pytest.mark.parametrize("rate_hz", [0, -16000, 999, 384001, 44100.0, "44100", True, None])
def test_rates_are_checked(rate_hz: object) -> None:
    with pytest.raises(AudioError, match=r"sample rate is .* from 1000 to 384000"):
        StreamingResampler(rate_hz)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_channels", [0, -1, 65, 1.0])
def test_channel_counts_are_checked(num_channels: object) -> None:
    with pytest.raises(AudioError, match="number of channels"):
        StreamingResampler(48000, num_channels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("num_channels", "chunk", "message"),
    [
        (1, np.zeros((10, 2)), r"shape \(10, 2\); expected \(N,\) or \(N, 1\)"),
        (2, np.zeros(10), r"shape \(10,\); expected \(N, 2\)"),
        (2, np.zeros((2, 10)), r"shape \(2, 10\); expected \(N, 2\)"),
        (1, np.float32(0), r"shape \(\)"),
        (1, np.zeros(10, np.int32), "number format int32"),
        (1, np.zeros(10, complex), "number format complex128"),
        (1, np.array(["a"]), "number format"),
        (1, np.array([0.0, np.nan]), "not finite"),
        (1, np.array([0.0, -np.inf]), "not finite"),
        (1, np.array([0.0, 12345.0]), r"reaches 12345; expected \[-1, 1\]: divide by 32768"),
    ],
)
@pytest.mark.parametrize("rate_hz", [16000, 48000])
def test_chunks_are_checked(rate_hz: int, num_channels: int, chunk: np.ndarray, message: str) -> None:
    resampler = StreamingResampler(rate_hz, num_channels)
    with pytest.raises(AudioError, match=message):
        resampler.push(chunk)
    # A refused chunk leaves the stream as it was.
    good = np.linspace(-0.5, 0.5, 4800 * num_channels).reshape(4800, num_channels)
    np.testing.assert_array_equal(np.concatenate([resampler.push(good), resampler.flush()]), resample(good, rate_hz))
