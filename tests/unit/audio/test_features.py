import pytest
import torch

from vivavoz.audio.alignment import first_mel_frame
from vivavoz.audio.encoder import AudioEncoderConfig
from vivavoz.audio.features import AudioFeatures
from vivavoz.errors import ConfigError


def tiny() -> AudioFeatures:
    torch.manual_seed(0)
    return AudioFeatures(AudioEncoderConfig(channels=(4, 4, 8, 8), num_features=8)).eval()


def test_features_are_the_encoded_windows_of_the_mel() -> None:
    features = tiny()
    samples = torch.randn(2, 9000, generator=torch.Generator().manual_seed(1)) * 0.1
    # Sound followed by silence, its mel preceded by silence, cut by hand.
    mel = features.mel(torch.nn.functional.pad(samples, (0, 4000)))
    mel = torch.cat([torch.full((2, 4, 80), -4.0), mel], dim=1)
    windows = [mel[:, 4 + first_mel_frame(frame) : 4 + first_mel_frame(frame) + 16] for frame in range(15)]
    with torch.inference_mode():
        torch.testing.assert_close(features(samples), features.encoder(torch.stack(windows, dim=1)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("num_samples", "num_frames"), [(0, 0), (1, 1), (640, 1), (641, 2), (16000, 25), (15999, 25)])
def test_number_of_pictures(num_samples: int, num_frames: int) -> None:
    assert tiny()(torch.zeros(1, num_samples)).shape == (1, num_frames, 8)


def test_streaming_needs_eval_mode_and_training_does_not() -> None:
    features = tiny().train()
    with pytest.raises(ConfigError, match="call eval"):
        features.init_state(1)
    features(torch.randn(2, 6400)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in features.parameters())


def test_weights_are_the_encoders_alone() -> None:
    assert all(name.startswith("encoder.blocks.") for name in tiny().state_dict())
