from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit.vae.pictures import make_vae, portraits
from vivavoz.errors import ConfigError
from vivavoz.rig.labels import LABELS
from vivavoz.vae.bases import MotionBases, amounts_of
from vivavoz.vae.config import WarpConfig, lite_vae_config, tiny_vae_config
from vivavoz.vae.vae import VAE
from vivavoz.vae.warp import sample_features, sample_frames


def test_untrained_bases_move_nothing() -> None:
    bases = MotionBases(6, 3)
    assert bases.read(torch.randn(2, 6, 8, 8)).abs().max() == 0


def test_an_amplified_basis_moves_further_and_the_others_as_far_as_before() -> None:
    torch.manual_seed(0)
    bases, seen = MotionBases(6, 3), torch.randn(2, 6, 8, 8)
    torch.nn.init.normal_(bases.conv_out.weight)
    before = bases.read(seen).unflatten(1, (2, 3, 2))  # sides, codes, x and y
    bases.amplify(1, 2.5)
    after = before * torch.tensor([1, 2.5, 1])[:, None, None, None]
    torch.testing.assert_close(bases.read(seen).unflatten(1, (2, 3, 2)), after, rtol=1e-3, atol=1e-4)


def test_frames_take_as_much_of_each_basis_as_their_amounts_say() -> None:
    bases = torch.randn(1, 8, 3, 5, generator=torch.Generator().manual_seed(0))
    amounts = torch.tensor([[[1.0, 0.0], [0.0, -2.0]]])
    expected = torch.stack([bases[:, 0:2], -2 * bases[:, 6:8]], dim=2)
    torch.testing.assert_close(MotionBases(6, 2)(bases, amounts), expected)
    torch.testing.assert_close(MotionBases(6, 2)(bases[:, :4].repeat(1, 2, 1, 1), amounts)[:, :, 1], -2 * bases[:, 2:4])


def test_every_frame_is_fetched_from_its_own_field() -> None:
    fields = torch.randn(2, 3, 4, 8, 6, generator=torch.Generator().manual_seed(0))
    flow = 0.2 * torch.randn(2, 2, 4, 8, 6, generator=torch.Generator().manual_seed(1))
    found = sample_frames(fields, flow)
    for t in range(4):
        torch.testing.assert_close(found[:, :, t], sample_features(fields[:, :, t], flow[:, :, t : t + 1]).squeeze(2))


def test_amounts_are_differences_of_the_chosen_codes_to_each_reference() -> None:
    codes = torch.arange(2 * 4 * 3, dtype=torch.float32).reshape(2, 4, 3, 1, 1).expand(-1, -1, -1, 2, 2)
    references = torch.ones(2, 2, 4, 2, 2) * torch.tensor([0.0, 10.0])[None, :, None, None, None]
    amounts = amounts_of(codes, references, (3, 1))
    assert amounts.shape == (4, 2, 3)
    torch.testing.assert_close(amounts[1], codes[0, [3, 1], :, 0, 0] - 10)  # the first row's second reference
    torch.testing.assert_close(amounts[2], codes[1, [3, 1], :, 0, 0])


@torch.no_grad()
def test_a_chosen_code_moves_the_picture_in_proportion_and_the_reference_itself_stays() -> None:
    vae = make_vae(tiny_vae_config(warp=True))
    for parameter in (*vae.d1.parameters(), *vae.fusion.parameters()):  # what else is told the code is deaf to it
        parameter.zero_()
    references = vae.encode_references(portraits(1, 1))
    rest = references.latents[:, 0].unsqueeze(2)
    still = vae.warp_fields(rest, references).flow
    torch.testing.assert_close(still, torch.zeros_like(still), atol=1e-6, rtol=0)
    flows = []
    for code, amount in ((0, 1e-3), (0, 2e-3), (1, 1e-3)):  # bases are of codes 0 and 2
        z = rest.clone()
        z[:, code] += amount
        flows.append(vae.warp_fields(z, references).flow)
    assert flows[0].abs().max() > 1e-7
    torch.testing.assert_close(flows[1], 2 * flows[0], atol=1e-8, rtol=1e-2)
    torch.testing.assert_close(flows[2], torch.zeros_like(still), atol=1e-9, rtol=0)


def test_weights_without_bases_fit_a_preset_that_has_none() -> None:
    config = tiny_vae_config(warp=True)
    assert config.warp is not None
    plain = VAE(replace(config, warp=replace(config.warp, basis_codes=())))
    assert not any(".bases." in name for name in plain.state_dict())


class Called(TorchDispatchMode):
    """The names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_decoding_makes_no_tensors_of_numbers_so_that_a_gpu_can_record_it() -> None:
    vae = make_vae(tiny_vae_config(warp=True))
    references = vae.encode_references(portraits(1, 2))
    z = references.latents[:, 0].unsqueeze(2)
    vae.decode(z, references)  # tables are made once
    with Called() as called:
        vae.decode(z, references)
    assert "aten.grid_sampler_2d.default" in called.names
    assert not called.names & {"aten.index.Tensor", "aten.lift_fresh.default"}


def test_the_bases_of_lite_are_of_lips_lids_gaze_and_brows() -> None:
    warp = lite_vae_config().warp
    assert warp is not None
    without = {"tongue", "yaw", "pitch", "roll", "centre_x", "centre_y", "face_height", "breath", "light"}
    assert {LABELS[code] for code in warp.basis_codes} == set(LABELS) - without


@pytest.mark.parametrize("codes", [(3,), (-1,), (0, 99)])
def test_only_codes_that_exist_have_a_basis(codes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="basis_codes"):
        replace(tiny_vae_config(warp=True), warp=WarpConfig(basis_codes=codes))
