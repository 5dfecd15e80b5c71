"""The VAE as a stream: any chunking equals the whole clip, rows do not mix, snapshot / restore and reset are exact."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.streaming import check_streaming, chunkings
from tests.unit.vae.pictures import make_vae, portraits, video
from vivavoz.vae.config import VAEConfig, tiny_vae_config
from vivavoz.vae.vae import VideoEncoderState

CONFIGS = {
    "paint": tiny_vae_config(),
    "paint without shortcuts": replace(tiny_vae_config(), residual=False),
    "paint, kernels of one frame": replace(tiny_vae_config(), outer_temporal_kernel=1, inner_temporal_kernel=1),
    "warp": tiny_vae_config(warp=True),
    "warp, no kernel at the pixels": replace(tiny_vae_config(warp=True), outer_temporal_kernel=1),
}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def latents(batch_size: int, num_latents: int, seed: int = 3) -> Tensor:
    return torch.randn(batch_size, 8, num_latents, 1, 1, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", [config for config in CONFIGS.values() if config.warp is None])
def test_encoding_in_any_chunks(config: VAEConfig) -> None:
    vae, clip = make_vae(config), video(1, 13)
    plans = chunkings(13)
    assert len(plans) >= 6

    def encode(frames: Tensor, state: VideoEncoderState | None) -> Tensor:
        posterior = vae.encode(frames, state)
        return torch.cat([posterior.mean, posterior.log_variance], dim=1)

    out = check_streaming(encode, lambda: vae.init_encoder_state(1, 64, 64), clip, plans)
    assert out.shape[2] == 4


@each_config
@pytest.mark.parametrize("num_references", [0, 2])
def test_decoding_in_any_chunks(config: VAEConfig, num_references: int) -> None:
    vae = make_vae(config)
    with torch.no_grad():
        references = vae.encode_references(portraits(1, num_references))
    plans = chunkings(5)
    assert len(plans) >= 6
    out = check_streaming(
        lambda z, state: vae.decode(z, references, state),
        lambda: vae.init_decoder_state(1, 1, 1, num_references),
        latents(1, 5),
        plans,
    )
    assert out.shape[2] == 17


@torch.no_grad()
def test_frames_of_an_unfinished_group_wait() -> None:
    vae, clip = make_vae(CONFIGS["paint"]), video(1, 11)
    state = vae.init_encoder_state(1, 64, 64)
    counts = [
        vae.encode(clip[:, :, at : at + size], state).mean.shape[2] for at, size in ((0, 0), (0, 3), (3, 0), (3, 1), (4, 7))
    ]
    assert counts == [0, 1, 0, 0, 2]
    assert state.num_pending == 2


@each_config
@torch.no_grad()
def test_the_first_latent_is_one_frame_and_every_later_one_four(config: VAEConfig) -> None:
    vae = make_vae(config)
    references, state = vae.encode_references(portraits(1, 1)), vae.init_decoder_state(1, 1, 1, 1)
    counts = [vae.decode(latents(1, size), references, state).shape[2] for size in (1, 1, 2)]
    assert counts == [1, 4, 8]


@each_config
@torch.no_grad()
def test_rows_of_a_stream_are_independent(config: VAEConfig) -> None:
    vae, pictures, clips = make_vae(config), portraits(2, 2), video(2, 9)
    references = vae.encode_references(pictures)
    encoder_state, decoder_state = vae.init_encoder_state(2, 64, 64), vae.init_decoder_state(2, 1, 1, 2)
    together = [vae.encode(part, encoder_state).mean for part in clips.split([4, 5], dim=2)]
    pictures_out = [vae.decode(z, references, decoder_state) for z in together]
    for row in range(2):
        mine = slice(row, row + 1)
        own_references = vae.encode_references(pictures[mine])
        encoder_state, decoder_state = vae.init_encoder_state(1, 64, 64), vae.init_decoder_state(1, 1, 1, 2)
        for part, z, out in zip(clips[mine].split([4, 5], dim=2), together, pictures_out, strict=True):
            torch.testing.assert_close(vae.encode(part, encoder_state).mean, z[mine], atol=1e-5, rtol=0)
            torch.testing.assert_close(vae.decode(z[mine], own_references, decoder_state), out[mine], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_long_stream_keeps_its_memory() -> None:
    vae = make_vae(CONFIGS["warp"])
    references, state = vae.encode_references(portraits(1, 1)), vae.init_decoder_state(1, 1, 1, 1)
    size, places = state.num_bytes, [tensor.data_ptr() for tensor in state.tensors()]
    for step in range(20):
        assert vae.decode(latents(1, 1, seed=step), references, state).isfinite().all()
    assert (state.num_bytes, [tensor.data_ptr() for tensor in state.tensors()]) == (size, places)
