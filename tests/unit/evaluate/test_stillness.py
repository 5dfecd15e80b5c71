import numpy as np
import pytest

from tests.unit.evaluate.material import babble, material, tiniest_model
from tests.unit.rig.test_rig import face_landmarks
from vivavoz.evaluate.stillness import StillnessConfig, evaluate_stillness, speech_then_quiet, stillness_of

CONFIG = StillnessConfig(num_portraits=1, num_latent_portraits=1, speech_s=1, silence_s=2)


def test_sound_is_speech_then_silence_then_a_quiet_noise():
    sound = speech_then_quiet(babble().samples, CONFIG, seed=0)
    assert sound.shape == (5 * 16_000,)
    assert np.array_equal(sound[:16_000], babble().samples[:16_000])
    assert not sound[16_000:48_000].any()
    assert 20 * np.log10(sound[48_000:].std()) == pytest.approx(-55, abs=0.1)


def test_deviation_in_quiet_is_over_that_in_speech():
    swing = np.tile([1.0, -1.0], 63)[:125]
    track = np.concatenate([0.1 * swing[:25], 9 * swing[:25], 0.01 * swing[:25], 9 * swing[:25], 0.02 * swing[:25]])
    found = stillness_of([track.astype(np.float32), 2 * track.astype(np.float32)], CONFIG)
    assert found is not None
    assert found.num_portraits == 2
    assert found.silence_share == pytest.approx(0.1, rel=1e-3)  # the first second after speech does not count
    assert found.noise_share == pytest.approx(0.2, rel=1e-3)
    assert found.worst_silence_share == pytest.approx(0.1, rel=1e-3)
    assert stillness_of([], CONFIG) is None


def test_pictures_and_latents_are_measured():
    gaps = iter([0.05, 0.01] * 200)
    found = evaluate_stillness(tiniest_model(), material(), CONFIG, lambda image: face_landmarks(gap=next(gaps)))
    assert found.pictures is not None
    assert found.pictures.silence_share == pytest.approx(1, abs=0.02)
    assert found.latents is not None
    assert evaluate_stillness(tiniest_model(), material(), CONFIG, None).pictures is None
