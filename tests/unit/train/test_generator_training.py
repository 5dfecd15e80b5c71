import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.train.material import small_preset
from vivavoz.engine.model import Model
from vivavoz.errors import ConfigError, DataError
from vivavoz.rig.labels import LABELS, in_units
from vivavoz.train.checkpoint import load_part
from vivavoz.train.generator_training import (
    FrameWishes,
    GeneratorObjective,
    GeneratorTraining,
    Take,
    draw_windows,
    generator_loss,
    hear,
    velocity_error,
)
from vivavoz.train.label_latents import LabelLatents
from vivavoz.train.logs import read_log
from vivavoz.train.loop import LoopConfig, train

SETTINGS = GeneratorTraining(
    loop=LoopConfig(num_steps=4), batch_size=4, num_latents=4, latent_side=1, reference_noise=0, bias_noise=0
)
CHANNELS = small_preset().generator.latent_channels


def model(seed=0):
    return Model.initialised(small_preset(), seed)


def wishes(num_frames):
    """States change every ten pictures; the head turns by a tenth of a radian a picture."""
    index = torch.arange(num_frames)
    turning = torch.stack([0.1 * index, torch.zeros(num_frames), torch.ones(num_frames)], dim=1)
    return FrameWishes(index // 10 % 3, index % 7, index / num_frames, turning[:, :2], turning)


def raw_takes(count=3, num_frames=40):
    """Every label of a picture is ten times its index plus the take's number, so that a window tells where it was cut."""
    rng = np.random.default_rng(0)
    takes = []
    for take in range(count):
        rows = np.broadcast_to(10.0 * np.arange(num_frames)[:, None], (num_frames, len(LABELS)))
        labels = (rows + take).astype(np.float32)
        windows = torch.from_numpy(rng.normal(size=(num_frames, 16, 80)).astype(np.float32)) + take
        takes.append(Take(windows, labels, labels[0] - 500, wishes(num_frames)))
    return takes


def smooth_takes():
    """Labels of the size that labels have, following the sound's loudness."""
    rng = np.random.default_rng(1)
    takes = []
    for _ in range(3):
        loud = np.repeat(rng.normal(size=10), 4).astype(np.float32)
        labels = np.broadcast_to(loud[:, None], (40, len(LABELS))).astype(np.float32)
        windows = torch.from_numpy(np.broadcast_to(loud[:, None, None], (40, 16, 80)).copy())
        takes.append(Take(windows, labels, np.zeros(len(LABELS), np.float32), wishes(40)))
    return takes


def heard(takes):
    return hear(model().audio.encoder, takes)


@pytest.mark.parametrize("starts_video", [True, False])
def test_a_window_is_cut_out_of_sound_and_labels_alike(starts_video):
    settings = replace(SETTINGS, batch_size=8, start_odds=float(starts_video))
    takes = [
        replace(take, features=torch.from_numpy(take.labels[:, :1] - take.labels[0, 0]).repeat(1, 16)) for take in raw_takes()
    ]
    latents = LabelLatents(len(LABELS), 64)
    windows = draw_windows(takes, latents, settings, np.random.default_rng(0))
    num_frames = 13 if starts_video else 16
    assert windows.starts_video == starts_video
    assert windows.clean.shape == (8, 64, 4, 1, 1)
    assert windows.features.shape == (8, num_frames, 16)
    first = windows.features[:, 0, 0] / 10  # which picture the window begins with
    assert ((first == 0) if starts_video else (first % 4 == 1)).all()
    # The level of every latent is the mean of its four pictures, the first one's that picture itself.
    levels = windows.clean[:, 0, :, 0, 0] - windows.clean[:, :1, 0, 0, 0] + windows.features[:, :1, 0]
    rows = windows.features[..., 0]
    if starts_video:
        expected = torch.cat([rows[:, :1], rows[:, 1:].unflatten(1, (3, 4)).mean(2)], dim=1)
    else:
        expected = rows.unflatten(1, (4, 4)).mean(2)
        expected = expected - expected[:, :1] + rows[:, :1]
    torch.testing.assert_close(levels, expected)


def test_the_first_reference_is_the_portrait_as_it_is():
    windows = draw_windows(heard(raw_takes()), LabelLatents(len(LABELS), 64), SETTINGS, np.random.default_rng(0))
    assert windows.references.shape == (4, 64, 3, 1, 1)
    first = windows.references[:, 0, 0, 0, 0]
    assert set(first.tolist()) <= {-500, -499, -498}
    assert (windows.references[:, 0, 1:] >= 0).all()
    noisy = draw_windows(
        heard(raw_takes()), LabelLatents(len(LABELS), 64), replace(SETTINGS, reference_noise=0.5), np.random.default_rng(0)
    )
    assert (noisy.references - windows.references).std() == pytest.approx(0.5, rel=0.1)


def test_a_window_and_its_references_are_misjudged_alike():
    takes, latents = heard(raw_takes()), LabelLatents(len(LABELS), 64)
    plain, biased = (
        draw_windows(takes, latents, replace(SETTINGS, bias_noise=bias), np.random.default_rng(0)) for bias in (0.0, 0.5)
    )
    if plain.clean.shape != biased.clean.shape:
        pytest.fail("the bias changed what is drawn")
    levels = (biased.clean - plain.clean)[:, : len(LABELS), :, 0, 0]
    assert levels.std() == pytest.approx(0.5, rel=0.3)
    torch.testing.assert_close(levels, levels[:, :, :1].expand_as(levels), atol=1e-3, rtol=0)
    references = (biased.references - plain.references)[:, : len(LABELS), :, 0, 0]
    torch.testing.assert_close(references, levels[:, :, :1].expand_as(references), atol=1e-3, rtol=0)


@pytest.mark.parametrize("starts_video", [True, False])
def test_wishes_are_those_of_the_latents_pictures(starts_video):
    start, count = (0, 13) if starts_video else (5, 16)
    asked = wishes(40).of_latents(start, count, starts_video=starts_video)
    last = [0, 4, 8, 12] if starts_video else [8, 12, 16, 20]
    assert asked.state.tolist() == [index // 10 % 3 for index in last]
    assert asked.expression.tolist() == [index % 7 for index in last]
    means = [0.0, 0.25, 0.65, 1.05] if starts_video else [0.65, 1.05, 1.45, 1.85]
    torch.testing.assert_close(asked.head_pose[:, 0], torch.tensor(means))
    torch.testing.assert_close(asked.gaze[:, 0], torch.tensor(means))
    torch.testing.assert_close(asked.expression_intensity, torch.tensor(means) / 4)


def test_often_nothing_is_asked():
    takes, latents = heard(raw_takes()), LabelLatents(len(LABELS), 64)
    drawn = [draw_windows(takes, latents, SETTINGS, np.random.default_rng(seed)).controls for seed in range(60)]
    present = torch.cat([controls.present[:, 0] for controls in drawn]).float()
    assert float((present.sum(1) == 0).float().mean()) == pytest.approx(0.4 + 0.6 * 0.3**4, abs=0.1)
    assert float(present.mean()) == pytest.approx(0.6 * 0.7, abs=0.08)
    assert all(torch.equal(controls.present[:, :1].expand_as(controls.present), controls.present) for controls in drawn)


def test_takes_shorter_than_a_window_are_left_out():
    short, *_ = heard(raw_takes(num_frames=12))
    long = heard(raw_takes())
    with pytest.raises(DataError, match="none of 1 takes"):
        GeneratorObjective(model().generator, [short], SETTINGS)
    batches = GeneratorObjective(model().generator, [short, *long], SETTINGS).batches(0)
    assert all(windows.clean.shape[2] == 4 for windows in itertools.islice(batches, 10))


def test_the_draw_decides():
    takes, latents = heard(raw_takes()), LabelLatents(len(LABELS), 64)
    one, two, other = (draw_windows(takes, latents, SETTINGS, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.clean, two.clean)
    assert one.clean.shape != other.clean.shape or not torch.equal(one.clean, other.clean)


def test_takes_that_were_not_heard_are_refused():
    with pytest.raises(ConfigError, match="hear"):
        draw_windows(raw_takes(), LabelLatents(len(LABELS)), SETTINGS, np.random.default_rng(0))


def test_twenty_steps_lower_the_loss():
    generator = model().generator.train()
    takes, latents = heard(smooth_takes()), LabelLatents(len(LABELS), CHANNELS)
    optimizer = torch.optim.AdamW(generator.parameters(), lr=5e-3)

    @torch.no_grad()
    def measure():
        rng, draws = torch.Generator().manual_seed(9), np.random.default_rng(9)
        return sum(
            float(generator_loss(generator, draw_windows(takes, latents, SETTINGS, draws), SETTINGS, len(LABELS), rng))
            for _ in range(8)
        )

    before = measure()
    rng, draws = torch.Generator().manual_seed(0), np.random.default_rng(0)
    for _ in range(20):
        generator_loss(generator, draw_windows(takes, latents, SETTINGS, draws), SETTINGS, len(LABELS), rng).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert measure() < 0.85 * before


def test_lips_weigh_more():
    generator = model().generator
    windows = draw_windows(heard(smooth_takes()), LabelLatents(len(LABELS), CHANNELS), SETTINGS, np.random.default_rng(0))

    def loss(lip_weight, num_lip_labels):
        settings = replace(SETTINGS, lip_weight=lip_weight, num_lip_labels=num_lip_labels)
        with torch.no_grad():
            return float(generator_loss(generator, windows, settings, len(LABELS), torch.Generator().manual_seed(0)))

    plain, first, rest = loss(1.0, 7), loss(1e6, 1), loss(1e6, CHANNELS)
    assert rest == pytest.approx(plain, rel=1e-4)  # all weigh the same
    assert first != pytest.approx(plain, rel=1e-3)


def test_angles_weigh_more():
    velocity, target = torch.zeros(2, 1, len(LABELS), 2, 1, 1)
    channels = {name: LABELS.index(name) for name in ("yaw", "gaze_y", "opening", "breath")}

    def error(name, angle_weight):
        off = velocity.clone()
        off[:, channels[name]] = 1.0
        return float(velocity_error(off, target, replace(SETTINGS, angle_weight=angle_weight), len(LABELS)))

    for name in ("yaw", "gaze_y"):
        assert error(name, 3.0) / error("breath", 3.0) == pytest.approx(3)
        assert error(name, 1.0) == pytest.approx(error("breath", 1.0))
    assert error("opening", 3.0) / error("breath", 3.0) == pytest.approx(SETTINGS.lip_weight)


def test_a_step_has_its_own_windows_wherever_a_run_begins():
    objective = GeneratorObjective(model().generator, heard(smooth_takes()), SETTINGS)
    from_start = list(itertools.islice(objective.batches(0), 4))
    (third,) = itertools.islice(objective.batches(2), 1)
    assert torch.equal(third.clean, from_start[2].clean)
    assert torch.equal(third.references, from_start[2].references)
    assert all(third.clean.shape != other.clean.shape or not torch.equal(third.clean, other.clean) for other in from_start[3:])


def test_a_run_keeps_the_average(tmp_path):
    objective = GeneratorObjective(model().generator, heard(smooth_takes()), SETTINGS)
    train(objective, objective.batches, replace(SETTINGS.loop, num_steps=20, ema_decay=0.9), tmp_path)
    averaged = model().generator
    start = averaged.latent_in.weight.clone()
    load_part(tmp_path, "generator", averaged)
    mean, end = averaged.latent_in.weight, objective.generator.latent_in.weight
    assert not torch.equal(mean, end)
    assert (mean - end).norm() < (start - end).norm()
    assert [line["step"] for line in read_log(tmp_path)] == [20]


def drawn(takes, **changes):
    """Sixty batches of windows."""
    latents = LabelLatents(len(LABELS), 64)
    return [draw_windows(takes, latents, replace(SETTINGS, **changes), np.random.default_rng(seed)) for seed in range(60)]


def test_pauses_are_filled_with_the_speech_of_others_who_are_never_followed_untold():
    takes = [replace(take, features=torch.full((40, 16), float(number))) for number, take in enumerate(raw_takes())]
    mixed = 0
    for windows in drawn(takes, overheard_odds=1.0, start_odds=0.0):
        assert windows.controls.present[:, :, 0].all()  # the state is told
        own = windows.references[:, 0, 0, 0, 0] + 500  # the take's number
        spoken = windows.controls.state == 0
        for row, number, speaks in zip(windows.features[..., 0], own, spoken, strict=True):
            assert (row.unflatten(0, (4, 4))[speaks][:, -1] == number).all()
            mixed += bool((row != number).any())
    assert mixed > 60
    quiet = [replace(take, wishes=replace(take.wishes, state=torch.zeros_like(take.wishes.state))) for take in takes]
    for windows in drawn(quiet, overheard_odds=1.0):  # who speaks throughout hears himself alone
        assert all(len(row.unique()) == 1 for row in windows.features[..., 0])


def test_the_past_strays_only_where_angles_are_asked_for():
    takes = heard(smooth_takes())
    names = {"gaze_x": 2, "gaze_y": 2, "yaw": 3, "pitch": 3, "roll": 3}
    for windows in drawn(takes, astray=0.5):
        for channel in range(64):
            control = names.get(LABELS[channel]) if channel < len(LABELS) else None
            strays = windows.astray[:, channel] != 0
            expected = windows.controls.present[:, 0, control] if control else torch.zeros_like(strays)
            assert torch.equal(strays, expected)
    some = torch.cat([windows.astray[:, LABELS.index("yaw")] for windows in drawn(takes, astray=0.5)])
    assert float(some[some != 0].std()) == pytest.approx(0.5, rel=0.2)


def test_closures_are_those_of_a_latents_pictures():
    (take,) = heard(smooth_takes()[:1])
    labels = take.labels.copy()
    labels[:, LABELS.index("press")] = -0.4  # 0 in units
    labels[7, LABELS.index("press")] = 3.6  # 1
    for windows in drawn([replace(take, labels=labels)], start_odds=1.0)[:5]:
        torch.testing.assert_close(windows.closures, torch.tensor([0.0, 0, 1, 0]).expand(4, -1), atol=1e-5, rtol=0)
    assert in_units(labels, "press").max() == pytest.approx(1)


def test_closed_lips_weigh_more_and_only_the_lips():
    generator = model().generator
    windows = draw_windows(heard(smooth_takes()), LabelLatents(len(LABELS), CHANNELS), SETTINGS, np.random.default_rng(0))

    def loss(closures, weight, num_lip_labels=7):
        settings = replace(SETTINGS, closure_weight=weight, num_lip_labels=num_lip_labels)
        shut = replace(windows, closures=torch.full_like(windows.closures, closures))
        with torch.no_grad():
            return float(generator_loss(generator, shut, settings, len(LABELS), torch.Generator().manual_seed(0)))

    assert loss(0.0, 5.0) == pytest.approx(loss(1.0, 0.0))
    assert loss(1.0, 5.0, num_lip_labels=0) == pytest.approx(loss(0.0, 5.0, num_lip_labels=0))
    assert loss(1.0, 5.0) > 1.5 * loss(0.0, 5.0)


def test_who_is_led_about_is_told_where_to():
    led, other = (replace(take, is_led=is_led) for take, is_led in zip(heard(smooth_takes()[:2]), (True, False), strict=True))
    angles = [windows.controls.present[:, 0, 2:] for windows in drawn([led])]
    assert torch.cat(angles).all()
    assert not torch.cat([windows.controls.present[:, 0, 2:] for windows in drawn([other])]).all()
