import math
from dataclasses import replace

import pytest
import torch

from tests.unit.train.material import clip_config, portraits, small_preset
from vivavoz.errors import ConfigError, TrainingError
from vivavoz.rig.labels import LABELS
from vivavoz.train.clips import AnimatedClips, pictures
from vivavoz.train.filmed_clips import FilmedClips
from vivavoz.train.label_latents import LabelLatents
from vivavoz.train.logs import read_log
from vivavoz.train.loop import LoopConfig, Step, train
from vivavoz.train.vae_training import VAEObjective, VAETraining, decoder_losses, encode, label_references, latent_loss, relayed
from vivavoz.vae.vae import VAE

SETTINGS = VAETraining(loop=LoopConfig(num_steps=1))


def clips(**changes):
    people = portraits()
    return AnimatedClips(people, clip_config(**changes))


def vae(seed=0):
    torch.manual_seed(seed)
    return VAE(small_preset().vae)


def a_batch(**changes):
    return clips(**changes)[0]


def seen(model, batch):
    return model.encode_references(pictures(batch.references))


def test_twenty_steps_lower_every_loss():
    model, batch, settings = vae(), a_batch(clips_per_person=1), SETTINGS
    latents = LabelLatents(len(LABELS), model.config.latent_channels)
    target, known = latents(batch.labels, 1, 1), label_references(latents, batch, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(20):
        latent = latent_loss(encode(model, batch), target, settings)
        references = model.encode_references(pictures(batch.references), latents=known)
        parts = decoder_losses(model, batch, target, references, settings)
        pixels = torch.stack(list(parts.values())).sum()
        (latent + pixels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        parts |= {"latent": latent, "pixels": pixels}
        history.append({name: float(part.detach()) for name, part in parts.items()})
    assert set(history[0]) == {"latent", "pixels", "l1", "gradient", "flow", "mask", "paint"}
    assert history[-1]["latent"] < 0.9 * history[0]["latent"]
    assert history[-1]["pixels"] < 0.95 * history[0]["pixels"]
    assert history[-1]["flow"] < history[0]["flow"]


def test_every_loss_has_its_occasion():
    model, batch = vae(), a_batch()
    z = LabelLatents(len(LABELS), model.config.latent_channels)(batch.labels, 1, 1)
    several = a_batch(reference_odds=(0.0, 0.0, 1.0))
    assert "choice" in decoder_losses(model, several, z, seen(model, several), SETTINGS)
    for pixel_weight, expected in (
        (1.0, {"l1", "gradient", "flow", "mask", "paint"}),
        (0.0, {"flow", "mask", "paint"}),
    ):
        settings = replace(SETTINGS, pixel_weight=pixel_weight)
        assert set(decoder_losses(model, batch, z, seen(model, batch), settings)) == expected


def test_without_references_only_pixels_count():
    model, batch = vae(), a_batch(reference_odds=(1.0,))
    z = LabelLatents(len(LABELS), model.config.latent_channels)(batch.labels, 1, 1)
    assert set(decoder_losses(model, batch, z, seen(model, batch), SETTINGS)) == {"l1", "gradient"}


def test_references_are_told_in_their_own_label_latents():
    batch = a_batch(num_people=2, reference_odds=(0.0, 0.0, 1.0))
    latents = LabelLatents(len(LABELS), 64)
    z = label_references(latents, batch, 3)
    assert z.shape == (2, 2, 64, 3, 3)
    assert torch.equal(z[1, 0, : len(LABELS), 2, 0], batch.reference_labels[1, 0])
    assert z[:, :, len(LABELS) :].abs().max() == 0


def test_relayed_latents_move_as_the_labels_do_and_are_off_as_the_reference_is():
    batch = a_batch(num_people=2, clips_per_person=3, num_frames=5)
    latents = LabelLatents(len(LABELS), 64)
    target, known = latents(batch.labels, 3, 3), label_references(latents, batch, 3)
    off = torch.zeros(2, 1, 64, 1, 1)
    off[0, 0, LABELS.index("yaw")], off[1, 0, LABELS.index("opening")] = 0.5, -0.25
    share = torch.tensor([1.0, 0.5])[:, None].expand(-1, 64)
    read = latents.read(relayed(target, known + off, known, share)) - latents.read(target)
    expected = (off[:, 0, :, 0, 0] * share)[:, : len(LABELS)].repeat_interleave(3, dim=0)[:, None].expand(-1, 5, -1)
    torch.testing.assert_close(read, expected, atol=1e-5, rtol=0)


def test_of_relayed_latents_the_decoder_sees_what_the_encoder_cannot_read():
    """With E2 blind, frames' own latents are all alike; relayed ones still differ by their labels."""
    model, batch = vae(), a_batch(clips_per_person=2)
    for parameter in model.encoder.e2.parameters():
        torch.nn.init.zeros_(parameter)
    seen_by_d1 = []
    model.d1.register_forward_hook(lambda module, inputs, output: seen_by_d1.append(inputs[0].detach()))
    for relayed_odds, alike in ((0.0, True), (1.0, False)):
        settings = replace(SETTINGS, joint_odds=1.0, relayed_odds=relayed_odds, label_noise=0.0)
        VAEObjective(model, settings)(batch, Step(0, 0.0, torch.Generator().manual_seed(0)))
        codes = max(seen_by_d1, key=len)
        assert torch.equal(codes[0], codes[1]) == alike
        seen_by_d1.clear()


def test_what_the_encoder_reads_badly_is_told_and_the_rest_it_reads_itself(monkeypatch):
    model, batch = vae(), a_batch(clips_per_person=2)
    latents, decoded = LabelLatents(len(LABELS), model.config.latent_channels), []
    warp_fields = model.warp_fields
    monkeypatch.setattr(model, "warp_fields", lambda z, references: decoded.append(z.detach()) or warp_fields(z, references))
    for told in ((), ("press", "smile")):
        settings = replace(SETTINGS, joint_odds=1.0, told=told, label_noise=0.0)
        VAEObjective(model, settings)(batch, Step(0, 0.0, torch.Generator().manual_seed(0)))
    own, mixed = (latents.read(z)[:, 0] for z in decoded if len(z) == 2)
    differs = (own - mixed).abs().amax(dim=0) > 1e-3
    assert {name for name, one in zip(LABELS, differs, strict=True) if one} == {"press", "smile"}
    # Two frames of one person differ in them as their labels do.
    index = [LABELS.index("press"), LABELS.index("smile")]
    torch.testing.assert_close((mixed[0] - mixed[1])[index], (batch.labels[0, 0] - batch.labels[1, 0])[index], atol=1e-4, rtol=0)


def test_only_labels_can_be_told():
    with pytest.raises(ConfigError, match="told has gaze, expected labels, some of opening"):
        replace(SETTINGS, told=("gaze_x", "gaze"))


def trained(model, folder, **changes):
    settings = VAETraining(loop=LoopConfig(num_steps=4, log_every_steps=2), **changes)
    train(VAEObjective(model, settings), clips(clips_per_person=1).batches(), settings.loop, folder)
    return model


def changed(model, before):
    return {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}


def test_a_run_trains_all_or_leaves_e1(tmp_path):
    before = {name: weight.clone() for name, weight in vae().state_dict().items()}
    everything = changed(trained(vae(), tmp_path / "all", joint_odds=1.0), before)
    part = changed(trained(vae(), tmp_path / "part", joint_odds=1.0, freeze_e1=True), before)
    for found in (everything, part):
        assert any(name.startswith("encoder.e2.") for name in found)
        assert any(name.startswith("head.") for name in found)
    assert any(name.startswith("encoder.e1.") for name in everything)
    assert not any(name.startswith("encoder.e1.") for name in part)
    last = read_log(tmp_path / "all")[-1]
    assert {"latent", "l1", "gradient", "flow", "mask", "paint", "norm"} <= set(last)
    assert all(math.isfinite(value) for value in last.values())


def test_bases_can_learn_alone(tmp_path):
    before = {name: weight.clone() for name, weight in vae().state_dict().items()}
    found = changed(trained(vae(), tmp_path / "run", bases_alone=True, pixel_weight=0.0), before)
    assert found
    assert all(name.startswith("head.bases.") for name in found)
    without = VAE(replace(vae().config, warp=replace(vae().config.warp, basis_codes=())))
    with pytest.raises(ConfigError, match="has no bases"):
        VAEObjective(without, VAETraining(loop=LoopConfig(num_steps=1), bases_alone=True))


def test_clips_without_references_need_pixels(tmp_path):
    settings = VAETraining(loop=LoopConfig(num_steps=1), pixel_weight=0.0)
    with pytest.raises(TrainingError, match="nothing to learn"):
        train(VAEObjective(vae(), settings), clips(reference_odds=(1.0,)).batches(), settings.loop, tmp_path)


def step(index=0, seed=0):
    return Step(index, 0.5, torch.Generator().manual_seed(seed))


def test_the_encoder_learns_as_often_as_it_is_told():
    batch = a_batch()

    def learns(index, **changes):
        return "latent" in VAEObjective(vae(), VAETraining(loop=LoopConfig(num_steps=9), **changes))(batch, step(index))

    assert not learns(2)
    assert [learns(index, encoder_every=3) for index in range(6)] == [False, False, True, False, False, True]
    assert learns(0, joint_odds=1.0)


def test_a_person_is_misjudged_alike_in_all_pictures():
    settings = VAETraining(loop=LoopConfig(num_steps=9), label_noise=0.0, bias_noise=0.5)
    objective = VAEObjective(vae(), settings)
    objective.latents = LabelLatents(len(LABELS), 64)
    frames, references = torch.zeros(6, 64, 1, 3, 3), torch.zeros(2, 2, 64, 3, 3)
    z, known = objective._misjudged(frames, references, torch.Generator().manual_seed(0))
    assert torch.equal(known[:, :1].expand_as(known), known)
    assert torch.equal(z[:, :, 0], known[:, 0].repeat_interleave(3, dim=0))
    assert not torch.equal(known[0], known[1])
    assert float(known[:, :, : len(LABELS)].std()) == pytest.approx(0.5, rel=0.3)
    assert known[:, :, len(LABELS) :].abs().max() == 0


def test_filmed_clips_teach_encoder_and_decoder_by_their_pixels_alone():
    batch = a_batch()
    filmed = FilmedClips(batch.frames, batch.references.repeat_interleave(2, dim=0), batch.region)
    model = vae()
    torch.nn.init.normal_(model.head.conv_out.weight, std=0.1)  # from zeros, only this layer would learn in the first step
    objective = VAEObjective(model, SETTINGS)
    losses = objective(filmed, Step(0, 0.0, torch.Generator().manual_seed(0)))
    assert set(losses) == {"filmed_l1", "filmed_gradient"}
    torch.stack(list(losses.values())).sum().backward()
    for part in (model.encoder.e2, model.d1, model.head):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    assert not objective.show(filmed)


def test_it_can_be_trained_in_bfloat16():
    objective = VAEObjective(vae(), SETTINGS)
    with torch.autocast("cpu", torch.bfloat16):
        losses = objective(a_batch(), Step(0, 0.0, torch.Generator().manual_seed(0)))
    exact = objective(a_batch(), Step(0, 0.0, torch.Generator().manual_seed(0)))
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(
        {name: float(loss) for name, loss in exact.items()}, rel=0.05
    )
