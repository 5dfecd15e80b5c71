from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoz.audio.encoder import AudioEncoder, AudioEncoderConfig, load_wav2lip_weights
from vivavoz.errors import ConfigError, WeightsError

# In, out, kernel, stride, padding, residual, of the public model's `audio_encoder`, layer by layer.
PUBLIC_LAYERS = [
    (1, 32, 3, (1, 1), 1, False),
    (32, 32, 3, (1, 1), 1, True),
    (32, 32, 3, (1, 1), 1, True),
    (32, 64, 3, (3, 1), 1, False),
    (64, 64, 3, (1, 1), 1, True),
    (64, 64, 3, (1, 1), 1, True),
    (64, 128, 3, (3, 3), 1, False),
    (128, 128, 3, (1, 1), 1, True),
    (128, 128, 3, (1, 1), 1, True),
    (128, 256, 3, (3, 2), 1, False),
    (256, 256, 3, (1, 1), 1, True),
    (256, 512, 3, (1, 1), 0, False),
    (512, 512, 1, (1, 1), 0, False),
]


def public_tensors() -> dict[str, Tensor]:
    """Random tensors under the public checkpoint's names, `audio_encoder.N.conv_block...`."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for index, (num_in, num_out, kernel, _, _, _) in enumerate(PUBLIC_LAYERS):
        block = f"audio_encoder.{index}.conv_block"
        scale = (num_in * kernel * kernel) ** -0.5
        tensors[f"{block}.0.weight"] = torch.randn(num_out, num_in, kernel, kernel, generator=generator) * scale
        tensors[f"{block}.0.bias"] = torch.randn(num_out, generator=generator) * 0.1
        tensors[f"{block}.1.weight"] = 1 + 0.1 * torch.randn(num_out, generator=generator)
        tensors[f"{block}.1.bias"] = 0.1 * torch.randn(num_out, generator=generator)
        tensors[f"{block}.1.running_mean"] = 0.1 * torch.randn(num_out, generator=generator)
        tensors[f"{block}.1.running_var"] = 0.5 + torch.rand(num_out, generator=generator)
        tensors[f"{block}.1.num_batches_tracked"] = torch.tensor(1234)
    return tensors


def public_forward(tensors: dict[str, Tensor], mel_windows: Tensor) -> Tensor:
    """The public network by functional calls: (B, F, 16, 80) to (B, F, 512), one picture at a time."""
    rows = []
    for row in mel_windows:
        features = []
        for window in row:
            x = window.T[None, None]
            for index, (_, _, _, stride, padding, residual) in enumerate(PUBLIC_LAYERS):
                get: Callable[[str], Tensor] = lambda name, n=index: tensors[f"audio_encoder.{n}.conv_block.{name}"]  # noqa: E731
                y = functional.conv2d(x, get("0.weight"), get("0.bias"), stride=stride, padding=padding)
                mean, var = get("1.running_mean"), get("1.running_var")
                y = (y - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
                y = y * get("1.weight")[:, None, None] + get("1.bias")[:, None, None]
                x = torch.relu(y + x if residual else y)
            features.append(x.reshape(512))
        rows.append(torch.stack(features))
    return torch.stack(rows)


def checkpoint_file(path: Path, prefix: str = "module.", **changes: Tensor) -> Path:
    tensors = {prefix + name: tensor for name, tensor in (public_tensors() | changes).items()}
    tensors[prefix + "face_encoder_blocks.0.0.conv_block.0.weight"] = torch.zeros(3)
    torch.save({"state_dict": tensors, "optimizer": None, "global_step": 7, "global_epoch": 1}, path)
    return path


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_public_checkpoint_computes_what_the_public_network_computes(tmp_path: Path, prefix: str) -> None:
    encoder = AudioEncoder().eval()
    load_wav2lip_weights(encoder, checkpoint_file(tmp_path / "wav2lip.pth", prefix))
    windows = torch.rand(2, 3, 16, 80, generator=torch.Generator().manual_seed(1)) * 8 - 4
    with torch.inference_mode():
        torch.testing.assert_close(encoder(windows), public_forward(public_tensors(), windows), atol=1e-5, rtol=1e-4)


def test_a_bare_state_dict_loads_too(tmp_path: Path) -> None:
    torch.save(public_tensors(), tmp_path / "bare.pth")
    encoder = AudioEncoder()
    load_wav2lip_weights(encoder, tmp_path / "bare.pth")
    assert torch.equal(
        encoder.blocks.state_dict()["12.conv_block.0.bias"], public_tensors()["audio_encoder.12.conv_block.0.bias"]
    )


def test_default_has_the_public_size() -> None:
    assert sum(parameter.numel() for parameter in AudioEncoder().parameters()) == sum(
        tensor.numel() for name, tensor in public_tensors().items() if name.endswith(("weight", "bias"))
    )


def test_narrow_encoder_and_empty_input() -> None:
    torch.manual_seed(0)
    encoder = AudioEncoder(AudioEncoderConfig(channels=(4, 4, 8, 8), num_features=24)).eval()
    assert encoder(torch.zeros(2, 5, 16, 80)).shape == (2, 5, 24)
    assert encoder(torch.zeros(2, 0, 16, 80)).shape == (2, 0, 24)


def test_long_input_is_encoded_in_parts_alike() -> None:
    torch.manual_seed(0)
    encoder = AudioEncoder(AudioEncoderConfig(channels=(2, 2, 2, 2), num_features=4)).eval()
    windows = torch.randn(1, 1100, 16, 80)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(windows)[:, 1000:], encoder(windows[:, 1000:]), atol=1e-6, rtol=1e-5)


def test_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    encoder = AudioEncoder(AudioEncoderConfig(channels=(4, 4, 8, 8), num_features=8))
    encoder(torch.randn(2, 4, 16, 80)).square().sum().backward()
    # A bias before batch norm moves nothing, but all others must.
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert name.endswith("0.bias") or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("bad", [{"channels": (4, 4, 8)}, {"channels": (4, 0, 8, 8)}, {"num_features": 0}])
def test_config_is_checked(bad: dict) -> None:
    with pytest.raises(ConfigError, match="audio encoder has channels"):
        AudioEncoderConfig(**bad)


def assert_refused(path: Path, message: str, encoder: AudioEncoder | None = None) -> None:
    encoder = encoder or AudioEncoder()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as caught:
        load_wav2lip_weights(encoder, path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_missing_file_and_missing_tensor(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.pth", "does not exist")
    tensors = public_tensors()
    del tensors["audio_encoder.9.conv_block.1.running_var"]
    torch.save({"state_dict": tensors}, tmp_path / "a.pth")
    assert_refused(tmp_path / "a.pth", r"lacks audio_encoder\.9\.conv_block\.1\.running_var and 0 more of 91")
    torch.save({"state_dict": {}}, tmp_path / "b.pth")
    assert_refused(tmp_path / "b.pth", r"lacks audio_encoder\.0\.conv_block\.0\.weight and 90 more")
    torch.save(torch.zeros(3), tmp_path / "c.pth")
    assert_refused(tmp_path / "c.pth", "holds a Tensor")


def test_other_shapes(tmp_path: Path) -> None:
    path = checkpoint_file(tmp_path / "a.pth")
    narrow = AudioEncoder(AudioEncoderConfig(channels=(4, 4, 8, 8), num_features=8))
    assert_refused(path, r"shape \(32, 1, 3, 3\), expected \(4, 1, 3, 3\)", narrow)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.999])
@pytest.mark.parametrize("old_format", [False, True])
def test_truncated_file(tmp_path: Path, kept: float, old_format: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": public_tensors()}, path, _use_new_zipfile_serialization=not old_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    assert_refused(path, "truncated or damaged|not a torch checkpoint")


def test_foreign_and_harmful_files(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text("hello\n" * 100)
    assert_refused(tmp_path / "a.pth", "not a torch checkpoint|damaged")
    torch.save({"state_dict": nn.Linear(1, 1)}, tmp_path / "b.pth")
    assert_refused(tmp_path / "b.pth", "not a torch checkpoint of plain tensors")
