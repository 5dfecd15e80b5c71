import numpy as np
from scipy.fft import dct

from vivavoz.evaluate.videos.cepstrum import cepstrum

# What python_speech_features 0.6 gives for `chirp(4000)` as 16-bit sound: the first and the last of 24 steps.
FIRST = [21.1277, -2.055, 4.2895, 41.0262, -24.6545, -17.0997, 17.6645, -45.3209, -26.9634, -0.1142, -47.7986, -18.1623, 0.2349]
LAST = [21.3685, 8.7166, -19.6531, 10.2358, -52.6503, -27.595, 31.7001, -6.2797, 20.6243, 36.4631, -26.956, -11.1421, -0.1614]


def chirp(num_samples):
    t = np.arange(num_samples) / 16_000
    return (0.4 * np.sin(2 * np.pi * (200 + 900 * t) * t) + 0.1 * np.sin(2 * np.pi * 3100 * t)).astype(np.float32)


def test_numbers_of_the_package_that_syncnet_was_trained_with():
    found = cepstrum(chirp(4000))
    assert found.shape == (24, 13)
    np.testing.assert_allclose(found[0], FIRST, atol=2e-4)
    np.testing.assert_allclose(found[-1], LAST, atol=2e-4)


def test_a_step_of_its_own_computation():
    sound = chirp(4000)
    pcm = np.round(sound.astype(float) * 32768)
    window = pcm[1600:2000] - 0.97 * pcm[1599:1999]
    power = [abs(sum(window * np.exp(-2j * np.pi * k * np.arange(400) / 512))) ** 2 / 512 for k in range(257)]
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28)
    edges = [int(513 * 700 * (10 ** (m / 2595) - 1) / 16000) for m in mel]
    bands = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        rising = sum(power[k] * (k - low) / (middle - low) for k in range(low, middle))
        bands.append(rising + sum(power[k] * (high - k) / (high - middle) for k in range(middle, high)))
    expected = dct(np.log(bands), norm="ortho")[:13] * (1 + 11 * np.sin(np.pi * np.arange(13) / 22))
    expected[0] = np.log(sum(power))
    np.testing.assert_allclose(cepstrum(sound)[10], expected, rtol=1e-9, atol=1e-9)


def test_silence_is_finite_and_short_sound_is_one_step():
    assert np.isfinite(cepstrum(np.zeros(1600, np.float32))).all()
    assert cepstrum(chirp(300)).shape == (1, 13)
