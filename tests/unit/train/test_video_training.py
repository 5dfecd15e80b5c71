from dataclasses import replace

import pytest
import torch

from tests.models import lively_model, tiniest
from vivavoz.data.shards.reading import WindowBatch
from vivavoz.errors import ConfigError
from vivavoz.presets import Preset, lite, tiny
from vivavoz.train.logs import read_log
from vivavoz.train.loop import LoopConfig, Step, train
from vivavoz.train.perceptual import Perceptual, gradient_ssim
from vivavoz.train.video_training import VideoObjective, VideoTraining

PERCEPTUAL = Perceptual("gradient_ssim", "", gradient_ssim)


def window(num_references=1, side=64, num_frames=5, rows=1):
    rng = torch.Generator().manual_seed(3)

    def pictures(*shape):
        coarse = torch.randint(0, 256, (*shape, 4, 4, 3), generator=rng, dtype=torch.uint8)
        return coarse.repeat_interleave(side // 4, -3).repeat_interleave(side // 4, -2)

    return WindowBatch(
        frames=pictures(rows, num_frames),
        references=pictures(rows, num_references) if num_references else torch.zeros(rows, 0, side, side, 3, dtype=torch.uint8),
        samples=torch.zeros(rows, 0),
        landmarks=None,
        reference_landmarks=None,
        labels=None,
        keys=("",) * rows,
        first_frames=(0,) * rows,
        reference_keys=((),) * rows,
    )


def objective(preset: Preset, size_px=64, **settings):
    return VideoObjective(lively_model(preset).vae, VideoTraining(**settings), PERCEPTUAL, size_px=size_px)


def step(index=0):
    return Step(index, 0.0, torch.Generator().manual_seed(index))


@pytest.mark.parametrize(
    ("preset", "size_px", "stored_px"),
    [(tiny(), 64, 256), (tiny(warp=True), 64, 64), (lite(), 192, 256)],
    ids=["tiny", "warp", "lite"],
)
def test_every_preset_has_something_to_follow_with_any_number_of_references(preset, size_px, stored_px):
    model = objective(preset, size_px)
    learning = dict(model.vae.named_parameters())
    for num_references in (1, 0) if preset.vae.warp is None else (1,):
        losses = model(window(num_references, stored_px), step())
        assert losses.keys() == {"l1", "kl", "gradient_ssim"}
        assert all(0 < float(loss.detach()) < 1e3 for loss in losses.values())
        sum(losses.values()).backward()
        for part in ("encoder.e1.conv_in.weight", "encoder.e2.conv_out.weight", "d1.conv_in.weight", "head.conv_out.weight"):
            assert float(learning[part].grad.abs().max()) > 0, part


def test_the_loss_is_equation_2():
    model = objective(tiniest(), l1_weight=2.0, perceptual_weight=3.0, kl_weight=0.5)
    batch = window(2)
    losses = model(batch, step())
    video = batch.frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    posterior = model.vae.encode(video)
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0))
    references = model.vae.encode_references(batch.references.permute(0, 1, 4, 2, 3).float() / 127.5 - 1)
    rebuilt = model.vae.decode(posterior.mean + (0.5 * posterior.log_variance).exp() * noise, references)
    torch.testing.assert_close(losses["l1"], 2 * (rebuilt - video).abs().mean())
    torch.testing.assert_close(losses["kl"], 0.5 * posterior.kl())
    frames = [x.transpose(1, 2).flatten(0, 1) for x in (rebuilt, video)]
    torch.testing.assert_close(losses["gradient_ssim"], 3 * gradient_ssim(*frames))


def test_the_perceptual_term_can_look_at_some_frames_or_none():
    seen = []

    def watched(pictures, truth):
        seen.append(truth.detach())
        return gradient_ssim(pictures, truth)

    model = objective(tiniest(), perceptual_frames=2)
    model.perceptual = replace(PERCEPTUAL, distance=watched)
    for index in range(4):
        model(window(), step(index))
    assert [len(frames) for frames in seen] == [2] * 4
    assert any(not torch.equal(seen[0], other) for other in seen[1:])
    assert objective(tiniest(), perceptual_weight=0.0)(window(), step()).keys() == {"l1", "kl"}


def test_training_lowers_the_loss(tmp_path):
    def same(first):
        while True:
            yield window()

    train(objective(tiniest()), same, LoopConfig(num_steps=25, learning_rate=5e-3, warmup_steps=2, log_every_steps=5), tmp_path)
    log = read_log(tmp_path)
    assert log[-1]["l1"] < 0.9 * log[0]["l1"]


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="got pictures of 100 px"):
        objective(tiniest(), size_px=100)
