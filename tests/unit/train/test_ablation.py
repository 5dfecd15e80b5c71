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
from vivavoz.evaluate.clips import ClipsConfig, evaluate_clips, read_clips
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
    return read_clips(shards, ClipsConfig(num_clips=4, num_frames=5, size=64), held_only=True)


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
    assert set(held.keys) == {"cy-1", "di-1"}
    assert all(len(pictures) == 3 for clip in held.clips for pictures in clip.references.values())


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
    assert [result.clips for result in results] == [result.clips for result in whole]
    assert [(result.arm.residual, result.arm.references) for result in results] == [
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert all([line["step"] for line in read_log(tmp_path / "a" / result.arm.name)] == [1, 2, 3] for result in results)
    rows = write_ablation(results, recipe(), "gradient_ssim", tmp_path / "a")
    arms = [(on, count) for on in (False, True) for count in range(4)]
    assert [(row.residual, row.num_references) for row in rows] == [*arms, (None, 1)]
    by_place = {(row.residual, row.num_references): row for row in rows}
    gain_db = by_place[True, 2].score.psnr_db - by_place[True, 0].score.psnr_db
    assert by_place[True, 2].gain_db == pytest.approx(gain_db)
    assert by_place[True, 1].score.psnr_db != by_place[True, 3].score.psnr_db  # references are looked at
    assert 5 < by_place[None, 1].score.psnr_db < 30
    stored = json.loads((tmp_path / "a" / "ablation.json").read_text())
    assert [row["score"]["psnr_db"] for row in stored["rows"]] == [row.score.psnr_db for row in rows]
    table = (tmp_path / "a" / "ablation.md").read_text().splitlines()
    assert len(table) == 2 + 8 + 1
    assert read_image(tmp_path / "a" / "ablation.png").std() > 5
    fewer = run_ablation(shards, [replace(held, clips=held.clips[:1])], tmp_path / "a", recipe(), PERCEPTUAL)
    assert [len(result.clips[0].keys) for result in fewer] == [1] * 4  # measured anew: other clips
    with pytest.raises(DataError, match="another recipe"):
        run_ablation(shards, [held], tmp_path / "a", recipe(batch_size=1), PERCEPTUAL)


def test_arms_differ_in_what_they_switch_off_only(held):
    settings = recipe()
    vaes = {(arm.residual, arm.references): arm_vae(settings, arm) for arm in arms_of(settings)}
    sizes = {switches: sum(p.numel() for p in vae.parameters()) for switches, vae in vaes.items()}
    assert sizes[True, True] == sizes[False, True]  # shortcuts have no parameters
    assert sizes[True, False] < sizes[True, True]
    for switches, vae in vaes.items():
        found, _ = evaluate_clips(vae.eval(), held, PERCEPTUAL, (1, 3))
        one, three = (row.score for row in found.fidelities if not row.is_copy)
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
    with pytest.raises(DataError, match="none of 48 frames"):
        read_clips(shards, ClipsConfig(num_frames=45, size=64), held_only=True)
