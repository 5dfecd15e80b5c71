import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.models import tiniest
from tests.unit.train.board import check_pictures
from tests.unit.train.paper_material import latent_recipe, video_recipe, write_corpus, write_weights
from tests.unit.train.test_loop import Killed, losses
from vivavoz.data.latents.encoding import encode_corpus
from vivavoz.engine.weights import load
from vivavoz.errors import ConfigError, DataError
from vivavoz.train.distributed import Parallel
from vivavoz.train.paper_training import train_latents, train_video
from vivavoz.train.perceptual import choose_perceptual


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("paper") / "shards")


@pytest.fixture(scope="module")
def latents(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoded")
    encode_corpus(shards, write_weights(folder / "weights"), str(folder / "latents"), device="cpu")
    return str(folder / "latents")


@pytest.fixture(scope="module")
def whole(shards, latents, tmp_path_factory):
    """A run of each recipe that nobody disturbed, each step in two batches."""
    out = tmp_path_factory.mktemp("whole")
    train_video(shards, out / "video", video_recipe(), choose_perceptual(), accumulate_steps=2)
    train_latents(latents, out / "latents", latent_recipe(), accumulate_steps=2)
    return out


PHASES = ("video/vae-1", "video/vae-2", "latents/generator")
SHEETS = ({"references_frames_rebuilt"}, {"references_frames_rebuilt"}, {"true_drawn_latents", "true_drawn_frames"})


def test_every_recipe_runs_and_its_weights_load(whole, latents):
    for phase, names, sheets in zip(PHASES, [{"l1", "kl", "gradient_ssim"}] * 2 + [{"velocity"}], SHEETS, strict=True):
        log = losses(whole / phase)
        assert [line["step"] for line in log] == [1, 2, 3]
        assert all(line.keys() == {"step", "norm", *names} for line in log)
        check_pictures(whole / phase, sheets, 3)
    model = load(whole / "latents" / "weights", device="cpu")
    assert model.preset == tiniest()
    # The VAE is the one that made the latents, bit for bit.
    assert (whole / "latents/weights/vae.safetensors").read_bytes() == Path(latents, "weights/vae.safetensors").read_bytes()


@pytest.mark.parametrize(("phase", "step"), [("vae 1/2", 2), ("vae 2/2", 1)])
def test_a_killed_vae_run_goes_on_bit_for_bit(shards, whole, tmp_path, phase, step):
    def kill(news):
        if news.phase.startswith(phase) and news.step == step:
            raise Killed

    with pytest.raises(Killed):
        train_video(shards, tmp_path, video_recipe(), choose_perceptual(), accumulate_steps=2, report=kill)
    weights = train_video(shards, tmp_path, video_recipe(), choose_perceptual(), accumulate_steps=2)
    for number in (1, 2):
        assert losses(tmp_path / f"vae-{number}") == losses(whole / f"video/vae-{number}")
    assert (weights / "vae.safetensors").read_bytes() == (whole / "video/weights/vae.safetensors").read_bytes()


def test_a_killed_generator_run_goes_on_bit_for_bit(latents, whole, tmp_path):
    def kill(news):
        if news.step == 2:
            raise Killed

    with pytest.raises(Killed):
        train_latents(latents, tmp_path, latent_recipe(), accumulate_steps=2, report=kill)
    weights = train_latents(latents, tmp_path, latent_recipe(), accumulate_steps=2)
    assert losses(tmp_path / "generator") == losses(whole / "latents/generator")
    assert (weights / "generator.safetensors").read_bytes() == (whole / "latents/weights/generator.safetensors").read_bytes()


def test_two_processes_with_ddp_and_fsdp_do_what_one_does_in_two_batches(shards, latents, whole, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "tests.unit.train.paper_material", shards, latents, str(tmp_path)]
    run = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    for found, phase in (
        ("ddp/generator", "latents/generator"),
        ("fsdp/generator", "latents/generator"),
        ("video/vae-1", "video/vae-1"),
    ):
        for one, two in zip(losses(whole / phase), losses(tmp_path / found), strict=True):
            assert two == pytest.approx(one, rel=1e-4, abs=1e-8), found
        first, second, third = (line["norm"] for line in losses(whole / phase))
        assert abs(second / first - 1) > 1e-2 < abs(third / second - 1), "a step that was left out would show"
    for kind in ("ddp", "fsdp"):
        load(tmp_path / kind / "weights", device="cpu")


def test_a_step_that_cannot_be_divided_is_refused(shards, latents, tmp_path):
    with pytest.raises(ConfigError, match="2 windows cannot be divided among 1 processes with 3"):
        train_video(shards, tmp_path, video_recipe(), choose_perceptual(), accumulate_steps=3)
    with pytest.raises(ConfigError, match="4 windows cannot be divided among 8 processes"):
        train_latents(latents, tmp_path, latent_recipe(), parallel=Parallel(kind="ddp", rank=1, world_size=8))


def test_foreign_data_is_refused_in_one_line(shards, latents, whole, tmp_path):
    cases = [
        (lambda: train_video(latents, tmp_path / "a", video_recipe(), choose_perceptual()), "holds no pictures"),
        (lambda: train_latents(shards, tmp_path / "b", latent_recipe()), "vivavoz encode"),
        (lambda: train_latents(latents, tmp_path / "c", latent_recipe(num_latents=10)), "none longer than 10 latents"),
        (lambda: train_latents(latents, whole / "latents", latent_recipe(seed=1)), "another recipe"),
    ]
    other = replace(tiniest(), name="other", vae=replace(tiniest().vae, fusion_blocks=2))
    cases.append((lambda: train_latents(latents, tmp_path / "d", replace(latent_recipe(), preset=other)), "expected 'other'"))
    for run, expected in cases:
        with pytest.raises(DataError, match=expected) as caught:
            run()
        assert "\n" not in str(caught.value)
