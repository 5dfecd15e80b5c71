from dataclasses import replace

import pytest
import torch

from tests.unit.vae.pictures import make_vae
from vivavoz.vae.config import tiny_vae_config
from vivavoz.vae.decoder import Decoder1, Decoder2


@torch.no_grad()
def test_the_decoder_mirrors_the_encoder() -> None:
    vae = make_vae(tiny_vae_config())
    assert isinstance(vae.head, Decoder2)
    x = vae.d1(torch.randn(1, 8, 3, 1, 1))
    assert x.shape == (1, 16, 3, 4, 4)
    shapes = []
    for stage in vae.head.stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 3, 8, 8), (8, 5, 16, 16), (8, 9, 32, 32), (4, 9, 64, 64)]


@pytest.mark.parametrize("kernel", [1, 3])
def test_temporal_kernels_set_what_a_stream_remembers(kernel: int) -> None:
    config = replace(tiny_vae_config(), outer_temporal_kernel=kernel, inner_temporal_kernel=kernel)
    state = Decoder1(config).init_state(1, 1, 1), Decoder2(config).init_state(1, 4, 4)
    assert [part.num_bytes > 0 for part in state] == [kernel == 3] * 2
