import itertools
import json
import math

import pytest
import torch
from torch import nn

from tests.unit.train.clock import Stopped, tick
from tests.unit.train.material import clip_config, portraits, small_preset
from vivavoz.data.rig_labels import LABELS
from vivavoz.errors import DataError
from vivavoz.train import vae_training
from vivavoz.train.checkpoint import read_progress, read_weights
from vivavoz.train.clips import AnimatedClips
from vivavoz.train.label_latents import LabelLatents
from vivavoz.train.vae_training import VAETraining, decoder_loss, encode, label_references, latent_loss, train_vae
from vivavoz.vae.vae import VAE


def clips(**changes):
    people = portraits()
    return AnimatedClips(people.images, people.landmarks, clip_config(**changes))


def vae(seed=0):
    torch.manual_seed(seed)
    return VAE(small_preset().vae)


def probe():
    torch.manual_seed(1)
    return nn.Conv2d(small_preset().vae.decoder2_channels[2], 3, 1)


def a_batch(**changes):
    return next(itertools.islice(clips(**changes), 1))


def test_twenty_steps_lower_every_loss():
    model, batch, settings = vae(), a_batch(clips_per_person=1), VAETraining(budget_s=1)
    latents = LabelLatents(len(LABELS), model.config.latent_channels)
    target, known = latents(batch.labels, 1, 1), label_references(latents, batch, 1)
    reader = probe()
    optimizer = torch.optim.AdamW([*model.parameters(), *reader.parameters()], lr=3e-3)
    history = []
    for _ in range(20):
        latent = latent_loss(encode(model, batch), target, settings)
        pixels, parts = decoder_loss(model, reader, batch, target, settings, reference_latents=known)
        (latent + pixels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        history.append({"latent": float(latent.detach()), "pixels": float(pixels.detach()), **parts})
    assert set(history[0]) == {"latent", "pixels", "l1", "gradient", "flow", "mask", "paint", "place"}
    assert history[-1]["latent"] < 0.9 * history[0]["latent"]
    assert history[-1]["pixels"] < 0.95 * history[0]["pixels"]
    assert history[-1]["flow"] < history[0]["flow"]
    assert history[-1]["place"] < 0.8 * history[0]["place"]


def test_the_loss_is_the_sum_of_its_parts():
    model, batch = vae(), a_batch()
    z = LabelLatents(len(LABELS), model.config.latent_channels)(batch.labels, 1, 1)
    assert "choice" in decoder_loss(model, probe(), a_batch(reference_odds=(0.0, 0.0, 1.0)), z, VAETraining(budget_s=1))[1]
    for pixel_weight, expected in (
        (1.0, {"l1", "gradient", "flow", "mask", "paint", "place"}),
        (0.0, {"flow", "mask", "paint", "place"}),
    ):
        settings = VAETraining(budget_s=1, pixel_weight=pixel_weight)
        loss, parts = decoder_loss(model, probe(), batch, z, settings)
        assert set(parts) == expected
        assert float(loss.detach()) == pytest.approx(sum(parts.values()), rel=1e-5)


def test_without_references_only_pixels_count():
    model, batch = vae(), a_batch(reference_odds=(1.0,))
    z = LabelLatents(len(LABELS), model.config.latent_channels)(batch.labels, 1, 1)
    _, parts = decoder_loss(model, probe(), batch, z, VAETraining(budget_s=1))
    assert set(parts) == {"l1", "gradient"}


def test_references_are_told_in_their_own_label_latents():
    batch = a_batch(num_people=2, reference_odds=(0.0, 0.0, 1.0))
    latents = LabelLatents(len(LABELS), 64)
    z = label_references(latents, batch, 3)
    assert z.shape == (2, 2, 64, 3, 3)
    assert torch.equal(z[1, 0, : len(LABELS), 2, 0], batch.reference_labels[1, 0])
    assert z[:, :, len(LABELS) :].abs().max() == 0


def test_a_stopped_run_goes_on_to_the_same_number_of_steps(tmp_path, monkeypatch):
    settings = VAETraining(budget_s=5, save_every_s=1, encoder_every=2)  # decodes the encoder's own latents at the end
    tick(monkeypatch, vae_training)
    train_vae(vae(), clips(), settings, tmp_path / "whole", num_workers=0)
    whole = read_progress(tmp_path / "whole" / "vae.pt")
    assert (whole.step, whole.seconds) == (5, 5.0)

    tick(monkeypatch, vae_training, stop_after=3)
    with pytest.raises(Stopped):
        train_vae(vae(), clips(), settings, tmp_path / "stopped", num_workers=0)
    saved = read_progress(tmp_path / "stopped" / "vae.pt")
    assert 0 < saved.step <= 3
    tick(monkeypatch, vae_training)
    train_vae(vae(1), clips(), settings, tmp_path / "stopped", num_workers=0)
    assert read_progress(tmp_path / "stopped" / "vae.pt") == whole


def test_a_spent_budget_leaves_the_weights(tmp_path, monkeypatch):
    tick(monkeypatch, vae_training)
    settings = VAETraining(budget_s=2)
    train_vae(vae(), clips(), settings, tmp_path, num_workers=0)
    before = read_weights(tmp_path / "vae.pt", "vae")
    model = vae(1)
    train_vae(model, clips(), settings, tmp_path, num_workers=0)
    assert read_progress(tmp_path / "vae.pt").step == 2
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_the_log_has_a_line_for_twenty_steps_and_hands_it_on(tmp_path, monkeypatch):
    tick(monkeypatch, vae_training)
    told = []
    settings = VAETraining(budget_s=21, joint_odds=0.0, encoder_every=10)
    train_vae(vae(), clips(clips_per_person=1), settings, tmp_path, num_workers=0, report=told.append)
    lines = [json.loads(line) for line in (tmp_path / "vae.jsonl").read_text().splitlines()]
    assert lines == told
    assert [line["step"] for line in lines] == [20]
    assert lines[0]["seconds"] == 20
    assert {"latent", "l1", "gradient", "flow", "mask", "paint", "norm"} <= set(lines[0])
    assert all(math.isfinite(value) for value in lines[0].values())


def test_a_foreign_checkpoint_is_refused(tmp_path):
    (tmp_path / "vae.pt").write_text("something else")
    with pytest.raises(DataError, match="expected a checkpoint"):
        train_vae(vae(), clips(), VAETraining(budget_s=1), tmp_path, num_workers=0)


def test_a_frozen_e1_stays_while_the_rest_learns(tmp_path, monkeypatch):
    tick(monkeypatch, vae_training)
    model = vae()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    train_vae(model, clips(), VAETraining(budget_s=3, freeze_e1=True, encoder_every=1), tmp_path, num_workers=0)
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert not any(name.startswith("encoder.e1.") for name in changed)
    assert any(name.startswith("encoder.e2.") for name in changed)
    assert any(name.startswith("head.") for name in changed)
