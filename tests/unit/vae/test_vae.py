from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.unit.vae.pictures import make_vae, portraits, video
from vivavoz.errors import ConfigError
from vivavoz.vae.config import VAEConfig, paper_vae_config, tiny_vae_config
from vivavoz.vae.vae import VAE, References

CONFIGS = {"paint": tiny_vae_config(), "warp": tiny_vae_config(warp=True)}
both = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def latents(batch_size: int, num_latents: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(batch_size, 8, num_latents, 1, 1, generator=torch.Generator().manual_seed(seed))


def num_parameters(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_paper_size() -> None:
    with torch.device("meta"):
        vae = VAE(paper_vae_config())
    assert num_parameters(vae.encoder) == pytest.approx(497e6, rel=0.02)
    assert num_parameters(vae.d1, vae.fusion, vae.head) == pytest.approx(406e6, rel=0.02)
    assert num_parameters(vae) == num_parameters(vae.encoder, vae.d1, vae.fusion, vae.head)


@both
@pytest.mark.parametrize("num_references", [0, 1, 2, 3, 5])
@torch.no_grad()
def test_any_number_of_references(config: VAEConfig, num_references: int) -> None:
    vae, pictures = make_vae(config), portraits(2, num_references, 64, 128)
    references = vae.encode_references(pictures)
    assert references.num_references == num_references
    assert references.latents.shape == (2, num_references, 8, 1, 2)
    z = vae.encode(video(2, 9, 64, 128)).mean
    out = vae.decode(z, references)
    assert out.shape == (2, 3, 9, 64, 128)
    assert out.isfinite().all()


@both
@torch.no_grad()
def test_references_are_a_set(config: VAEConfig) -> None:
    vae, pictures = make_vae(config), portraits(1, 3)
    out = vae.decode(latents(1, 2), vae.encode_references(pictures))
    permuted = vae.decode(latents(1, 2), vae.encode_references(pictures[:, [2, 0, 1]]))
    torch.testing.assert_close(permuted, out, atol=1e-5, rtol=0)
    fewer = vae.decode(latents(1, 2), vae.encode_references(pictures[:, :2]))
    assert (fewer - out).abs().max() > 1e-3


@both
@torch.no_grad()
def test_masked_references_are_absent_ones(config: VAEConfig) -> None:
    vae, pictures, z = make_vae(config), portraits(2, 3), latents(2, 2)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    out = vae.decode(z, vae.encode_references(pictures, mask=mask))
    torch.testing.assert_close(out[:1], vae.decode(z[:1], vae.encode_references(pictures[:1, [0, 2]])), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[1:], vae.decode(z[1:], vae.encode_references(pictures[1:, 1:2])), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_reference_is_encoded_as_a_single_frame() -> None:
    vae, pictures = make_vae(CONFIGS["paint"]), portraits(2, 3)
    one_by_one = torch.stack([vae.encode(pictures[:, m, :, None]).mean[:, :, 0] for m in range(3)], dim=1)
    torch.testing.assert_close(vae.encode_references(pictures).latents, one_by_one, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_face_at_rest_has_its_usual_codes_unless_a_reading_is_far_off() -> None:
    vae = make_vae(replace(CONFIGS["warp"], resting_codes=((0, -1.0, 0.5), (2, 0.0, 0.2))))
    read = torch.zeros(2, 2, 8, 1, 1)
    read[:, :, :3, 0, 0] = torch.tensor([[[-0.6, 5.0, -0.1], [0.9, 6.0, 0.4]], [[2.0, 7.0, -0.9], [1.5, 8.0, -0.9]]])
    rested = vae.at_rest(read)
    # Within the error of the usual; the person's other picture stays as far from it as it was read.
    torch.testing.assert_close(rested[0, :, 0, 0, 0], torch.tensor([-1.0, 0.5]))
    torch.testing.assert_close(rested[0, :, 2, 0, 0], torch.tensor([0.0, 0.5]))
    # Beyond it, by so much.
    torch.testing.assert_close(rested[1, :, 0, 0, 0], torch.tensor([1.5, 1.0]))
    torch.testing.assert_close(rested[1, :, 2, 0, 0], torch.tensor([-0.7, -0.7]))
    assert torch.equal(rested[:, :, [1, *range(3, 8)]], read[:, :, [1, *range(3, 8)]])
    assert float(read[0, 0, 0]) == pytest.approx(-0.6), "what was read is left alone"


@torch.no_grad()
def test_references_are_at_rest_only_where_that_is_said() -> None:
    vae, pictures = make_vae(replace(CONFIGS["warp"], resting_codes=((0, -1.0, 0.5),))), portraits(1, 2)
    as_read, at_rest = vae.encode_references(pictures), vae.encode_references(pictures, at_rest=True)
    assert torch.equal(at_rest.latents, vae.at_rest(as_read.latents))
    assert not torch.equal(at_rest.latents, as_read.latents)
    told = vae.encode_references(pictures, latents=as_read.latents, at_rest=True)
    assert torch.equal(told.latents, as_read.latents), "what is known needs no correction"
    z = at_rest.latents[:, 0, :, None]
    torch.testing.assert_close(vae.warp_fields(z, at_rest).flow[:, 0], torch.zeros(1, 2, 1, 32, 32), atol=1e-5, rtol=0)


def test_what_references_differ_by_may_be_told() -> None:
    vae = make_vae(tiny_vae_config(warp=True))
    pictures = portraits(1, 2)
    moved = torch.tensor([[[0.0, 0.0, 0.0], [0.5, -1.0, 0.0]]])
    read, told = vae.encode_references(pictures).latents, vae.encode_references(pictures, moved=moved).latents
    assert torch.equal(told[:, 0], read[:, 0])
    assert torch.allclose(told[:, 1, :3] - read[:, 0, :3], moved[:, 1, :, None, None].expand(1, 3, 1, 1), atol=1e-6)
    assert torch.equal(told[:, 1, 3:], read[:, 0, 3:])


def test_the_painted_layer_may_cover_less_and_each_row_as_its_own_references_say() -> None:
    vae = make_vae(tiny_vae_config(warp=True))
    pictures = portraits(1, 2)
    usual, bare = vae.encode_references(pictures), vae.encode_references(pictures, cover=-3.0)
    z = latents(1, 1)
    as_usual, barely = vae.warp_fields(z, usual), vae.warp_fields(z, bare)
    torch.testing.assert_close(barely.mask, as_usual.mask - 3)
    assert torch.equal(barely.flow, as_usual.flow)
    both = vae.warp_fields(z.repeat(2, 1, 1, 1, 1), References.joined([usual, bare]))
    torch.testing.assert_close(both.mask, torch.cat([as_usual.mask, barely.mask]), atol=1e-5, rtol=1e-5)
    twice = vae.warp_fields(z.repeat(2, 1, 1, 1, 1), bare.repeat(2))
    torch.testing.assert_close(twice.mask[1:], barely.mask, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_future_frames_never_change_earlier_latents() -> None:
    vae, clip = make_vae(CONFIGS["paint"]), video(1, 13)
    before = vae.encode(clip)
    for num_latents in (1, 2, 3):
        changed = clip.clone()
        changed[:, :, 4 * num_latents - 3 :] = video(1, 16 - 4 * num_latents, seed=9)
        after = vae.encode(changed)
        for mine, theirs in ((after.mean, before.mean), (after.log_variance, before.log_variance)):
            torch.testing.assert_close(mine[:, :, :num_latents], theirs[:, :, :num_latents], atol=1e-6, rtol=0)
            assert (mine[:, :, num_latents] - theirs[:, :, num_latents]).abs().max() > 1e-5


@both
@torch.no_grad()
def test_future_latents_never_change_earlier_frames(config: VAEConfig) -> None:
    vae, z = make_vae(config), latents(1, 4)
    references = vae.encode_references(portraits(1, 2))
    before = vae.decode(z, references)
    for num_latents in (1, 2, 3):
        changed = z.clone()
        changed[:, :, num_latents:] = latents(1, 4 - num_latents, seed=9)
        after, num_frames = vae.decode(changed, references), 4 * num_latents - 3
        torch.testing.assert_close(after[:, :, :num_frames], before[:, :, :num_frames], atol=1e-6, rtol=0)
        assert (after[:, :, num_frames] - before[:, :, num_frames]).abs().max() > 1e-5


@both
@torch.no_grad()
def test_rows_are_independent(config: VAEConfig) -> None:
    vae, clips, pictures = make_vae(config), video(3, 5), portraits(3, 2)
    z = vae.encode(clips).mean
    out = vae.decode(z, vae.encode_references(pictures))
    for row in range(3):
        mine = slice(row, row + 1)
        torch.testing.assert_close(vae.encode(clips[mine]).mean, z[mine], atol=1e-5, rtol=0)
        torch.testing.assert_close(vae.decode(z[mine], vae.encode_references(pictures[mine])), out[mine], atol=1e-5, rtol=0)


@torch.no_grad()
def test_ablation_without_references() -> None:
    vae, full = make_vae(replace(CONFIGS["paint"], references=False)), make_vae(CONFIGS["paint"])
    assert num_parameters(vae.fusion) < num_parameters(full.fusion)
    z = latents(1, 2)
    some, others = (vae.decode(z, vae.encode_references(portraits(1, 2, seed=seed))) for seed in (1, 2))
    assert torch.equal(some, others)
    assert (full.decode(z, full.encode_references(portraits(1, 2))) - full.decode(z, full.encode_references(portraits(1, 0))))[
        0
    ].abs().max() > 1e-4


@torch.no_grad()
def test_ablation_without_residual() -> None:
    vae, full = make_vae(replace(CONFIGS["paint"], residual=False)), make_vae(CONFIGS["paint"])
    assert num_parameters(vae) == num_parameters(full)
    clip = video(1, 5)
    plain, shortcut = vae.encode(clip).mean, full.encode(clip).mean
    assert plain.shape == shortcut.shape
    assert (plain - shortcut).abs().max() > 1e-3
    references = vae.encode_references(portraits(1, 1))
    assert vae.decode(plain, references).shape == clip.shape


@torch.no_grad()
def test_reference_motion_tells_a_references_pose_in_the_latents_terms() -> None:
    with_motion, pictures, z = make_vae(CONFIGS["warp"]), portraits(1, 2), latents(1, 2)
    # An anchor is made of the reference's latent, told or not, and bases move by how far a frame's is from it.
    unanchored = replace(CONFIGS["warp"].warp, anchored=False, basis_codes=())
    without = make_vae(replace(CONFIGS["warp"], reference_motion=False, warp=unanchored))
    kept = {
        name: weight
        for name, weight in with_motion.state_dict().items()
        if ".pyramid.motion." not in name and ".bases." not in name
    }
    without.load_state_dict(kept)
    own = with_motion.encode_references(pictures)
    given = with_motion.encode_references(pictures, latents=own.latents)
    assert torch.equal(with_motion.decode(z, given), with_motion.decode(z, own))
    moved = with_motion.encode_references(pictures, latents=own.latents + 1)
    assert (with_motion.decode(z, moved) - with_motion.decode(z, own)).abs().max() > 1e-4
    plain = [without.encode_references(pictures, latents=own.latents + shift) for shift in (0, 1)]
    assert torch.equal(without.decode(z, plain[0]), without.decode(z, plain[1]))


@both
def test_every_parameter_is_trained(config: VAEConfig) -> None:
    vae, clip = make_vae(config).train(), video(1, 5)
    posterior = vae.encode(clip)
    out = vae.decode(posterior.sample(torch.Generator().manual_seed(0)), vae.encode_references(portraits(1, 2)))
    ((out - clip).abs().mean() + posterior.kl()).backward()
    assert [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_photographs_may_have_any_size() -> None:
    vae = make_vae(CONFIGS["warp"])
    pictures, photos = portraits(1, 2), portraits(1, 2, 90, 130, seed=5)
    references = vae.encode_references(pictures, photos)
    assert references.size == (90, 130)
    assert vae.decode(latents(1, 2), references).shape == (1, 3, 5, 90, 130)


@pytest.mark.parametrize(("height", "width"), [(63, 64), (64, 100), (0, 64)])
def test_sizes_that_do_not_fit_are_refused(height: int, width: int) -> None:
    vae = make_vae(CONFIGS["paint"])
    with pytest.raises(ConfigError, match="multiples of 64"):
        vae.encode(torch.zeros(1, 3, 1, height, width))
    with pytest.raises(ConfigError, match="multiples of 64"):
        vae.encode_references(torch.zeros(1, 1, 3, height, width))
    with pytest.raises(ConfigError, match="multiples of 64"):
        vae.init_encoder_state(1, height, width)


@pytest.mark.parametrize("num_frames", [0, 2, 4, 7])
def test_clips_of_unfinished_groups_are_refused_offline(num_frames: int) -> None:
    with pytest.raises(ConfigError, match="1 \\+ 4n"):
        make_vae(CONFIGS["paint"]).encode(torch.zeros(1, 3, num_frames, 64, 64))
