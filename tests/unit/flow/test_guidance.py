import pytest
import torch

from vivavoz.flow.guidance import guide


@pytest.fixture
def branches() -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, 3, 2, 2, generator=rng) for _ in range(3)]


@pytest.mark.parametrize("scales", [(1, 1), (2, 2), (3, 1), (0, 0), (1.5, 2.5)])
def test_guidance_is_equation_i(branches, scales):
    full, no_audio, no_reference = branches
    audio_scale, reference_scale = scales
    expected = audio_scale * (full - no_audio) + reference_scale * (full - no_reference) - full + no_audio + no_reference
    got = guide(*branches, audio_scale=audio_scale, reference_scale=reference_scale)
    torch.testing.assert_close(got, expected)


def test_scales_of_one_are_no_guidance(branches):
    assert torch.equal(guide(*branches, audio_scale=1, reference_scale=1), branches[0])


def test_default_scales_are_two(branches):
    full, no_audio, no_reference = branches
    torch.testing.assert_close(guide(*branches), 3 * full - no_audio - no_reference)
