import json
from dataclasses import replace

import pytest
import torch

from tests.models import tiniest
from tests.unit.data.shards.material import make_clip
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.shards.reading import ResidentWindows, ShardWindows, WindowConfig
from vivavoz.errors import ConfigError, DataError
from vivavoz.evaluate.ablation_report import write_ablation
from vivavoz.evaluate.clip_reconstruction import hold_clips, measure_clips, measure_copies
from vivavoz.media.image import read_image
from vivavoz.train.ablation import ablation_recipe, arm_vae, arms_of, run_ablation
from vivavoz.train.logs import read_log
from vivavoz.train.perceptual import Perceptual, gradient_ssim

PERCEPTUAL = Perceptual("gradient_ssim", "", gradient_ssim)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("ablation"))
    clips = [("anna-1", "anna", "train"), ("anna-2", "anna", "train"), ("cy-1", "cy", "validation"), ("di-1", "di", "test")]
    made = [make_clip(key, identity=who, num_frames=39, split=split) for key, who, split in clips]
    Manifest(shards=(write_shard(f"{folder}/one.tar", made),)).save(folder)
    return folder


@pytest.fixture(scope="module")
def held(shards):
    return hold_clips(shards, num_windows=4, num_frames=5, size_px=64)


def recipe(**changes):
    made = ablation_recipe(3)
    loop = replace(made.loop, log_every_steps=1, save_every_s=1e-9)
    return replace(made, **{"vae": tiniest().vae, "batch_size": 2, "loop": loop, **changes})


def test_clips_in_memory_are_the_same_made_smaller(shards):
    config = WindowConfig(batch_size=2, num_frames=5, reference_odds=(0.0, 0.0, 1.0), arrays=False, seed=3)
    whole, small = ShardWindows(shards, config)[4], ResidentWindows(shards, config, side_px=64)[4]
    assert (small.keys, small.first_frames, small.reference_keys) == (whole.keys, whole.first_frames, whole.reference_keys)
    assert small.frames.shape == (2, 5, 64, 64, 3)
    assert small.references.shape == (2, 2, 64, 64, 3)
    for one, other in ((small.frames, whole.frames), (small.references, whole.references)):
        pooled = other.float().unflatten(3, (64, 4)).unflatten(2, (64, 4)).mean(dim=(3, 5))
        assert (one.float() - pooled).abs().max() <= 0.51


def test_people_held_back_are_measured_on(held):
    keys = {key for batch in held.batches for key in batch.keys}
    assert keys == {"cy-1", "di-1"}
    assert all(batch.references.shape[1] == 3 for batch in held.batches)
    copy = measure_copies(held, PERCEPTUAL)
    assert 5 < copy.psnr_db < 30
    assert 0 < copy.l1 < 0.5


@pytest.mark.slow
def test_every_arm_is_trained_once_and_a_killed_run_goes_on(shards, held, tmp_path):
    class Killed(Exception):
        pass

    def kill(news):
        if news.phase == "cr-va-alone-0" and news.step == 2:
            raise Killed

    with pytest.raises(Killed):
        run_ablation(shards, [held], tmp_path / "a", recipe(), PERCEPTUAL, report=kill)
    results = run_ablation(shards, [held], tmp_path / "a", recipe(), PERCEPTUAL)
    whole = run_ablation(shards, [held], tmp_path / "b", recipe(), PERCEPTUAL)
    assert [result.fidelities for result in results] == [result.fidelities for result in whole]
    assert [(result.arm.residual, result.arm.references) for result in results] == [
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert all([line["step"] for line in read_log(tmp_path / "a" / result.arm.name)] == [1, 2, 3] for result in results)
    rows = write_ablation(results, [measure_copies(held, PERCEPTUAL)], recipe(), "gradient_ssim", tmp_path / "a")
    assert [(row.residual, row.num_references) for row in rows] == [(on, count) for on in (False, True) for count in range(4)]
    by_place = {(row.residual, row.num_references): row for row in rows}
    assert by_place[True, 2].gain_db == pytest.approx(by_place[True, 2].psnr_db - by_place[True, 0].psnr_db)
    assert by_place[True, 1].psnr_db != by_place[True, 3].psnr_db  # references are looked at
    stored = json.loads((tmp_path / "a" / "ablation.json").read_text())
    assert [row["psnr_db"] for row in stored["rows"]] == [row.psnr_db for row in rows]
    table = (tmp_path / "a" / "ablation.md").read_text().splitlines()
    assert len(table) == 2 + 8 + 1
    assert read_image(tmp_path / "a" / "ablation.png").std() > 5
    with pytest.raises(DataError, match="another recipe"):
        run_ablation(shards, [held], tmp_path / "a", recipe(batch_size=1), PERCEPTUAL)


def test_arms_differ_in_what_they_switch_off_only(held):
    settings = recipe()
    vaes = {(arm.residual, arm.references): arm_vae(settings, arm) for arm in arms_of(settings)}
    sizes = {switches: sum(p.numel() for p in vae.parameters()) for switches, vae in vaes.items()}
    assert sizes[True, True] == sizes[False, True]  # shortcuts have no parameters
    assert sizes[True, False] < sizes[True, True]
    for switches, vae in vaes.items():
        one, three = measure_clips(vae.eval(), held, PERCEPTUAL, (1, 3))
        assert (one.psnr_db == three.psnr_db) == (not switches[1])


def test_seeds_are_averaged(held):
    settings = replace(recipe(), seeds=(0, 1))
    arms = arms_of(settings)
    assert len(arms) == len({arm.name for arm in arms}) == 8
    first, second = (arm_vae(settings, arm).state_dict() for arm in (arms[0], arms[4]))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_mistakes_are_told(shards):
    with pytest.raises(ConfigError, match="got 0 steps"):
        ablation_recipe(0)
    with pytest.raises(DataError, match="none of 45 frames or more"):
        hold_clips(shards, num_windows=4, num_frames=45, size_px=64)
