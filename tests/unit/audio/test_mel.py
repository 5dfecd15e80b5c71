import numpy as np
import pytest
import torch

from vivavoz.audio.mel import MelConfig, MelSpectrogram, slaney_filterbank
from vivavoz.errors import ConfigError


def slow_filterbank() -> np.ndarray:
    """The 80 bands of Slaney's Auditory Toolbox over 0..8000 Hz in steps of 20, (80, 401), band by band and bin by bin."""

    def mel_to_hz(mel: float) -> float:
        return 200 * mel / 3 if mel <= 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    def hz_to_mel(hz: float) -> float:
        return 3 * hz / 200 if hz <= 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)

    edges = [mel_to_hz(mel) for mel in np.linspace(hz_to_mel(55), hz_to_mel(7600), 82)]
    bank = np.zeros((80, 401))
    for band in range(80):
        low, mid, high = edges[band : band + 3]
        for k in range(401):
            hz = 20.0 * k
            if low < hz <= mid:
                bank[band, k] = (hz - low) / (mid - low)
            elif mid < hz < high:
                bank[band, k] = (high - hz) / (high - mid)
        bank[band] *= 2 / (high - low)
    return bank


def slow_mel(samples: np.ndarray) -> np.ndarray:
    """(N,) to (1 + N // 200, 80), in float64, straight from the definition."""
    bank = slow_filterbank()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 800)
    sound = np.concatenate([np.zeros(401), samples.astype(np.float64), np.zeros(800)])
    frames = []
    for m in range(1 + len(samples) // 200):
        start = 401 + 200 * m - 400
        emphasised = np.array([sound[n] - 0.97 * sound[n - 1] for n in range(start, start + 800)])
        mel = bank @ np.abs(np.fft.rfft(emphasised * hann))
        level_db = 20 * np.log10(np.maximum(1e-5, mel)) - 20
        frames.append(np.clip(8 * (level_db + 100) / 100 - 4, -4, 4))
    return np.stack(frames)


def test_matches_a_slow_reading_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    time_s = np.arange(5013) / 16000
    samples = 0.4 * np.sin(2 * np.pi * 220 * time_s) + 0.02 * rng.standard_normal(5013)
    samples[2000:3500] *= 0.01
    mel = MelSpectrogram()(torch.tensor(samples, dtype=torch.float32)[None])
    assert mel.shape == (1, 26, 80)
    np.testing.assert_allclose(mel[0].numpy(), slow_mel(samples), atol=1e-4)


def test_filterbank_matches_a_slow_reading_and_weighs_all_bands_alike() -> None:
    bank = slaney_filterbank(MelConfig()).double().numpy()
    np.testing.assert_allclose(bank.T, slow_filterbank(), atol=1e-8)
    # Triangles of area 1 on a grid of 20 Hz; the narrow ones at the bottom meet few grid points.
    np.testing.assert_allclose(bank.sum(axis=0)[40:] * 20, 1, atol=0.05)


def test_silence_is_exactly_the_lowest_value() -> None:
    mel = MelSpectrogram()
    out = mel(torch.zeros(1, 3000))
    assert mel.config.silence == -4
    assert torch.equal(out, torch.full((1, 16, 80), -4.0))


def test_values_stay_in_range() -> None:
    torch.manual_seed(0)
    out = MelSpectrogram()(torch.rand(1, 8000).mul(2).sub(1).sign())
    assert out.min() >= -4
    assert out.max() <= 4


@pytest.mark.parametrize("num_samples", [0, 1, 199, 200, 399, 400, 401, 800, 1234])
def test_number_of_frames(num_samples: int) -> None:
    assert MelSpectrogram()(torch.zeros(2, num_samples)).shape == (2, 1 + num_samples // 200, 80)


def test_frame_m_sees_400_samples_to_either_side_of_200_m() -> None:
    mel = MelSpectrogram()
    silent = mel(torch.zeros(1, 4000))
    for sample in (0, 399, 401, 1999, 2000, 2001):
        click = torch.zeros(1, 4000)
        click[0, sample] = 1
        changed = (mel(click) != silent).any(dim=2)[0].nonzero().flatten().tolist()
        # Preemphasis lets sample n sound in n + 1 too; near its edges the Hann window is too small for a click to be heard.
        seen = {m for m in range(21) if sample + 1 - 200 * m > -400 and sample - 200 * m < 400}
        heard = {m for m in range(21) if abs(sample - 200 * m) < 390}
        assert heard <= set(changed) <= seen


def test_derived_tensors_are_not_weights() -> None:
    assert not MelSpectrogram().state_dict()


def test_config_is_checked() -> None:
    for bad in (
        {"window_samples": 801},
        {"hop_samples": 0},
        {"hop_samples": 500},
        {"min_hz": 8000.0},
        {"max_hz": 9000.0},
        {"num_bands": 0},
        {"min_level_db": 0.0},
    ):
        with pytest.raises(ConfigError, match=r"expected|need"):
            MelConfig(**bad)  # type: ignore[arg-type]
