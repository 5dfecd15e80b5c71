from dataclasses import replace

import pytest
import torch

from vivavoz.errors import AudioError
from vivavoz.generator.conditioning import AudioEmbedder, ControlEmbedder, Controls, group_audio
from vivavoz.generator.config import tiny_generator_config

CONFIG = tiny_generator_config()


def make_features(num_frames: int) -> torch.Tensor:
    return torch.randn(2, num_frames, CONFIG.audio_features, generator=torch.Generator().manual_seed(0))


def test_grouping_gives_each_latent_its_pictures():
    features = make_features(9)
    first = group_audio(features, starts_video=True)
    assert first.shape == (2, 3, 4, CONFIG.audio_features)
    assert torch.equal(first[:, 0, -1], features[:, 0])
    assert not first[:, 0, :-1].any()
    assert torch.equal(first[:, 1:].flatten(1, 2), features[:, 1:])
    later = group_audio(features[:, 1:], starts_video=False)
    assert torch.equal(later, first[:, 1:])


@pytest.mark.parametrize(("num_frames", "starts_video"), [(8, True), (9, False), (0, False)])
def test_sound_that_does_not_fit_is_refused(num_frames, starts_video):
    with pytest.raises(AudioError, match=f"{num_frames} pictures"):
        group_audio(make_features(num_frames), starts_video=starts_video)


def test_first_and_later_latents_have_an_mlp_each():
    torch.manual_seed(0)
    embedder = AudioEmbedder(CONFIG).requires_grad_(False)
    audio = group_audio(make_features(8), starts_video=False)
    embedded = embedder(audio, torch.tensor([True, False]))
    assert embedded.shape == (2, 2, CONFIG.audio_channels)
    torch.testing.assert_close(embedded[0, 0], embedder.first(audio[0, 0, 3]))
    torch.testing.assert_close(embedded[1, 0], embedder.later(audio[1, 0].flatten()))
    torch.testing.assert_close(embedded[:, 1], embedder.later(audio[:, 1].flatten(1)))


def test_dropped_rows_get_the_null_embedding():
    embedder = AudioEmbedder(CONFIG).requires_grad_(False)
    audio = group_audio(make_features(8), starts_video=False)
    starts = torch.zeros(2, dtype=torch.bool)
    embedded = embedder(audio, starts, torch.tensor([False, True]))
    assert torch.equal(embedded[0], embedder(audio, starts)[0])
    assert torch.equal(embedded[1], embedder.null.expand(2, -1))


def test_controls_take_their_places():
    torch.manual_seed(0)
    embedder = ControlEmbedder(CONFIG).requires_grad_(False)
    nothing = embedder(Controls(), 2, 3).unflatten(-1, (4, -1))
    assert torch.equal(nothing, embedder.null.expand(2, 3, -1, -1))
    gaze = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    embedded = embedder(Controls(state=torch.full((2, 3), 2), gaze=gaze), 2, 3).unflatten(-1, (4, -1))
    assert torch.equal(embedded[:, :, 0], embedder.state.weight[2].expand(2, 3, -1))
    assert torch.equal(embedded[:, :, 2], embedder.gaze(gaze))
    assert torch.equal(embedded[:, :, [1, 3]], nothing[:, :, [1, 3]])


def test_expression_scales_with_its_intensity():
    embedder = ControlEmbedder(CONFIG).requires_grad_(False)
    expression = torch.tensor([[1, 1, 6]])
    embedded = embedder(Controls(expression=expression, expression_intensity=torch.tensor([[0.0, 0.5, 1.0]])), 1, 3)
    channels = embedded.unflatten(-1, (4, -1))[0, :, 1]
    assert not channels[0].any()
    torch.testing.assert_close(channels[1], 0.5 * embedder.expression.weight[1])
    torch.testing.assert_close(channels[2], embedder.expression.weight[6])


def test_angles_are_heard_as_loud_as_their_gain():
    torch.manual_seed(0)
    plain = ControlEmbedder(CONFIG).requires_grad_(False)
    loud = ControlEmbedder(replace(CONFIG, angle_gain=5.0)).requires_grad_(False)
    loud.load_state_dict(plain.state_dict())
    rng = torch.Generator().manual_seed(1)
    gaze, pose = torch.randn(1, 3, 2, generator=rng), torch.randn(1, 3, 3, generator=rng)
    asked = Controls(state=torch.ones(1, 3, dtype=torch.int64), gaze=gaze, head_pose=pose)
    five_times = replace(asked, gaze=5 * gaze, head_pose=5 * pose)
    torch.testing.assert_close(loud(asked, 1, 3), plain(five_times, 1, 3))
