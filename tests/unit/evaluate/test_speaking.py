from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models import images, lively_model, picturewise, tiniest
from tests.unit.evaluate.material import babble, drawn_portrait
from vivavoz.evaluate.speaking import speak, with_sampling

NUM_LATENT_FRAMES = 12  # of 45 pictures


@pytest.fixture(scope="module")
def model():
    return lively_model(tiniest())


def test_speaking_is_streaming_and_keeps_the_latents(model):
    runtime = model.runtime
    spoken = speak(model, drawn_portrait().image, babble().samples, seed=3)
    with model.avatar(drawn_portrait().image, crop="none").stream(seed=3) as stream:
        expected = images([*stream.push(babble().samples), *stream.flush()])
    assert np.array_equal(np.stack(spoken.images), expected)
    assert spoken.latents.shape == (1, 8, NUM_LATENT_FRAMES, 1, 1)
    assert model.runtime is runtime
    silent = speak(model, drawn_portrait().image, babble().samples, seed=3, shown=())
    assert silent.images == ()
    assert torch.equal(silent.latents, spoken.latents)


def test_all_latents_are_kept_where_pictures_come_in_parts():
    model = lively_model(picturewise())
    model.use_runtime("cpu")
    spoken = speak(model, drawn_portrait().image, babble().samples, seed=3)
    assert len(spoken.images) == 45
    assert spoken.latents.shape[2] == NUM_LATENT_FRAMES


@pytest.mark.parametrize(("decode_latents", "num_decoded"), [(None, 8), (1, 7)])
def test_only_what_is_shown_is_decoded_and_it_is_the_same(decode_latents, num_decoded):
    """The last block and the one before it, to warm up; latent by latent, less of that, but one of the first block."""
    preset = tiniest()
    watching = lively_model(replace(preset, vae=replace(preset.vae, inner_temporal_kernel=1)))
    long = babble(77)  # blocks begin at 0, 13, 29, 45 and 61
    decoded = []
    step = watching.runtime.decode

    def decode(z, references, state):
        decoded.append(z.shape[2])
        return step(z, references, state)

    watching.runtime = replace(watching.runtime, decode=decode, decode_latents=decode_latents)
    whole = speak(watching, drawn_portrait().image, long.samples, seed=3)
    decoded.clear()
    part = speak(watching, drawn_portrait().image, long.samples, seed=3, shown=(range(2, 4), range(63, 67)))
    assert sum(decoded) == num_decoded
    assert len(part.images) == 6
    assert np.array_equal(np.stack(part.images), np.stack(whole.images)[[2, 3, 63, 64, 65, 66]])


def test_sampling_is_another_and_the_weights_are_the_same(model):
    other = with_sampling(model, replace(model.preset.sampling, num_steps=3))
    assert other.preset.sampling.num_steps == 3
    assert model.preset.sampling.num_steps == 1
    assert other.generator is model.generator
    first, second = (speak(one, drawn_portrait().image, babble(9).samples, seed=3, shown=()).latents for one in (model, other))
    assert not torch.equal(first, second)
