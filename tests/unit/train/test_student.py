import json
import shutil
from dataclasses import replace

import pytest

from tests.models import lively_model, tiniest
from tests.unit.train.material import small_preset, write_material
from tests.unit.train.paper_material import write_corpus
from tests.unit.train.test_loop import Killed, losses
from vivavoz.data.latents.encoding import encode_corpus
from vivavoz.engine.weights import load, save_model
from vivavoz.errors import DataError
from vivavoz.train.checkpoint import read_progress
from vivavoz.train.generator_training import GeneratorTraining
from vivavoz.train.loop import LoopConfig
from vivavoz.train.student import train_label_student, train_latent_student
from vivavoz.train.student_recipes import (
    LabelStudentRecipe,
    lite_student_recipe,
    paper_student_recipe,
    shortened_student,
    tiny_student_recipe,
)
from vivavoz.train.student_training import Distillation


def label_recipe(**changes):
    """Three steps at one place, two at their real size, every one in the log and in a checkpoint."""
    loop = LoopConfig(num_steps=3, log_every_steps=1, save_every_s=1e-9, ema_decay=0.9)
    place = GeneratorTraining(loop=loop, batch_size=2, num_latents=4, latent_side=1)
    phases = (place, replace(place, loop=replace(loop, num_steps=2), batch_size=1, latent_side=2))
    distillation = Distillation(num_steps=2, teacher_steps=4, timestep_shift=3.0)
    return replace(LabelStudentRecipe(distillation=distillation, phases=phases, hours=0.003), **changes)


def latent_recipe(**changes):
    """Three steps, every one in the log and in a checkpoint."""
    recipe = shortened_student(tiny_student_recipe(), 3)
    return replace(recipe, loop=replace(recipe.loop, save_every_s=1e-9), **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Teachers, and what both kinds learn from."""
    folder = tmp_path_factory.mktemp("student")
    write_material(folder / "portraits", folder / "speech", folder / "corpus")
    save_model(lively_model(small_preset()), folder / "labels")
    save_model(lively_model(tiniest()), folder / "latents")
    encode_corpus(write_corpus(folder / "shards"), str(folder / "latents"), str(folder / "encoded"), device="cpu")
    return folder


def train_labels(folder, out, recipe=None, teacher="labels", **options):
    if not (out / "corpus").exists():
        shutil.copytree(folder / "corpus", out / "corpus")
    return train_label_student(
        folder / teacher, folder / "portraits", folder / "speech", out, recipe or label_recipe(), **options
    )


def train_latents(folder, out, recipe=None, teacher="latents", **options):
    return train_latent_student(folder / teacher, str(folder / "encoded"), out, recipe or latent_recipe(), **options)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run of each that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    train_labels(folder, out / "labels")
    train_latents(folder, out / "latents")
    return out


@pytest.mark.parametrize("kind", ["labels", "latents"])
def test_a_students_model_is_its_teachers_but_for_the_generator_and_how_it_is_sampled(folder, whole, kind):
    weights = whole / kind / "weights"
    model, teacher = load(weights, device="cpu"), load(folder / kind, device="cpu")
    assert model.preset.sampling.num_steps == 2
    assert not model.preset.sampling.is_guided
    assert replace(model.preset, sampling=teacher.preset.sampling) == teacher.preset
    assert (weights / "vae.safetensors").read_bytes() == (folder / kind / "vae.safetensors").read_bytes()
    mine, theirs = model.state_dict(), teacher.state_dict()
    changed = {name.partition(".")[0] for name in mine if not mine[name].equal(theirs[name])}
    assert changed == {"generator"}


def test_every_step_is_logged(whole):
    for phase, count in (("labels/student-1", 3), ("labels/student-2", 2), ("latents/student", 3)):
        log = losses(whole / phase)
        assert [line["step"] for line in log] == list(range(1, count + 1))
        assert all(line.keys() == {"step", "norm", "step_1", "step_2"} for line in log)


@pytest.mark.parametrize(
    ("train", "kind", "phases", "killed"),
    [
        (train_labels, "labels", ("student-1", "student-2"), ("student-1", 2)),
        (train_labels, "labels", ("student-1", "student-2"), ("student-2", 1)),
        (train_latents, "latents", ("student",), ("student", 2)),
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(folder, whole, tmp_path, train, kind, phases, killed):
    def kill(news):
        if getattr(news, "phase", None) == killed[0] and news.step == killed[1]:
            raise Killed

    with pytest.raises(Killed):
        train(folder, tmp_path, report=kill)
    assert not (tmp_path / "weights").exists()
    weights = train(folder, tmp_path)
    for phase in phases:
        assert losses(tmp_path / phase) == losses(whole / kind / phase)
    name = "generator.safetensors"
    assert (weights / name).read_bytes() == (whole / kind / "weights" / name).read_bytes()


def test_a_finished_run_needs_no_data(folder, whole, tmp_path):
    shutil.copytree(whole / "labels", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "weights")
    weights = train_label_student(folder / "labels", tmp_path / "nothing", tmp_path / "nothing", tmp_path / "run", label_recipe())
    assert read_progress(tmp_path / "run" / "student-2").step == 2
    name = "generator.safetensors"
    assert (weights / name).read_bytes() == (whole / "labels" / "weights" / name).read_bytes()


def test_another_teacher_or_recipe_is_refused(folder, whole, tmp_path):
    save_model(lively_model(small_preset(), seed=1), tmp_path / "labels")
    shutil.copytree(whole / "labels", tmp_path / "run")
    with pytest.raises(DataError, match="another recipe"):
        train_labels(folder, tmp_path / "run", teacher=tmp_path / "labels")
    with pytest.raises(DataError, match="another recipe"):
        train_labels(folder, tmp_path / "run", label_recipe(seed=1))
    train_labels(folder, tmp_path / "run")


def test_latents_of_another_vae_are_refused(folder, tmp_path):
    with pytest.raises(DataError, match="was encoded by the 'tiny' preset's VAE"):
        train_latents(folder, tmp_path, teacher="labels")


def test_what_the_recipes_ask_for():
    lite = lite_student_recipe(10)
    assert lite.budget_s == pytest.approx(600)
    assert lite.phases[-1].latent_side == 3
    assert lite.distillation.num_steps <= 4
    paper = paper_student_recipe()
    # The teacher's 12 steps of three branches and the clean pass of two, against one branch.
    assert (12 * 3 + 2) / (paper.distillation.num_steps + 1) > 7
    assert json.dumps(shortened_student(paper, 5).loop.num_steps) == "5"
