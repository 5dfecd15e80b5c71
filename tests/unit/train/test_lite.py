import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.data.shards.material import make_clip
from tests.unit.train.board import check_pictures
from tests.unit.train.material import hear, portraits, small_preset, small_recipe, write_material
from vivavoz.audio.features import AudioFeatures
from vivavoz.data.corpus import Prepared, Reader
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.manifest import Manifest
from vivavoz.engine.model import Model
from vivavoz.engine.weights import load
from vivavoz.errors import DataError, OutputError
from vivavoz.rig.labels import LABELS, in_units
from vivavoz.rig.motion import COLUMN, MOTION
from vivavoz.rig.rig import Rig
from vivavoz.train import lite
from vivavoz.train.checkpoint import load_part, read_progress
from vivavoz.train.filmed_clips import FilmedConfig
from vivavoz.train.lite import lead_about, make_takes, train_lite
from vivavoz.train.logs import read_log
from vivavoz.train.perceptual import choose_perceptual

PHASES = (
    "vae-1",
    "vae-2",
    "encoder",
    "audio",
    "generator-1",
    "generator-2",
)
SHEETS = {
    "vae-1": {"reference_frame_rebuilt_fields"},
    "vae-2": {"reference_frame_rebuilt_fields"},
    "encoder": {"true_read_codes"},
    "audio": {"true_heard_lips"},
    "generator-1": {"true_drawn_latents"},
    "generator-2": {"true_drawn_latents"},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    write_material(folder / "portraits", folder / "speech", folder / "run" / "corpus")
    return folder


@pytest.fixture
def material(prepared, tmp_path):
    """Portraits, speech and the run's folder, where both are prepared already."""
    shutil.copytree(prepared, tmp_path / "copy")
    return tuple(tmp_path / "copy" / name for name in ("portraits", "speech", "run"))


def steps(out):
    return [read_progress(out / phase).step for phase in PHASES]


def test_a_run_leaves_weights_that_are_those_of_its_last_checkpoints(material):
    out, news = material[2], []
    perceptual = choose_perceptual()
    weights = train_lite(*material, small_recipe(), perceptual, report=news.append)
    assert weights == out / "weights"
    assert steps(out) == [3] * 6
    model = load(weights)
    fresh = Model.initialised(small_preset(), 0)
    expected = Model.initialised(small_preset(), 1)
    load_part(out / "vae-2", "vae", expected.vae)
    load_part(out / "generator-2", "generator", expected.generator)
    load_part(out / "audio", "encoder", expected.audio.encoder)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, expected.state_dict()[name], rtol=2**-8, atol=1e-30)  # bfloat16 in the file
    moved = [name for name, weight in model.vae.state_dict().items() if not torch.equal(weight, fresh.vae.state_dict()[name])]
    assert any(name.startswith("encoder.e1") for name in moved)
    assert any(isinstance(one, Prepared) for one in news)
    for phase, sheets in SHEETS.items():
        check_pictures(out / phase, sheets, 3)
    # The perceptual term is there under its own name wherever pixels count.
    assert [perceptual.name in read_log(out / phase)[0] for phase in PHASES] == [False, True, False, False, False, False]


def test_bases_are_amplified_once_however_often_a_run_goes_on(material):
    out, recipe = material[2], replace(small_recipe(), basis_gains={LABELS[2]: 3.0})
    for _ in range(2):
        bases = load(train_lite(*material, recipe)).vae.state_dict()["head.bases.conv_out.weight"]
    learnt = Model.initialised(small_preset(), 1)
    load_part(out / "vae-2", "vae", learnt.vae)
    expected = learnt.vae.state_dict()["head.bases.conv_out.weight"] * torch.tensor([1, 1, 3, 3])[:, None, None, None]
    torch.testing.assert_close(bases, expected, rtol=2**-8, atol=1e-30)
    assert expected.abs().max() > 0


def test_a_run_learns_from_filmed_people_where_there_are_any(material, tmp_path):
    recipe, folder = small_recipe(), str(tmp_path / "filmed")
    clips = write_shard(f"{folder}/one.tar", [make_clip(num_frames=5, split="train")])
    Manifest(shards=(clips,)).save(folder)
    later = replace(recipe.vae[1], filmed=FilmedConfig(size=64, batch_size=1, reference_odds=(0.0, 1.0), odds=0.7))
    train_lite(*material, replace(recipe, vae=(recipe.vae[0], later)), filmed=folder)
    logged = [[{"filmed_l1", "l1"} & set(line) for line in read_log(material[2] / phase)] for phase in PHASES[:2]]
    assert logged[0] == [set()] * 3
    assert {"filmed_l1"} in logged[1]


def test_a_finished_run_is_not_trained_again_and_a_lost_phase_is(material):
    out = material[2]
    train_lite(*material, small_recipe())
    first = (out / "weights" / "vae.safetensors").read_bytes(), (out / "weights" / "generator.safetensors").read_bytes()
    train_lite(*material, small_recipe())
    assert steps(out) == [3] * 6
    assert first == ((out / "weights" / "vae.safetensors").read_bytes(), (out / "weights" / "generator.safetensors").read_bytes())
    shutil.rmtree(out / "generator-2")
    train_lite(*material, small_recipe())
    assert steps(out) == [3] * 6
    assert first[0] == (out / "weights" / "vae.safetensors").read_bytes()


def test_a_run_stopped_between_phases_goes_on(material, monkeypatch):
    out = material[2]

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lite, "GeneratorObjective", stop)
        with pytest.raises(KeyboardInterrupt):
            train_lite(*material, small_recipe())
    assert steps(out) == [3, 3, 3, 3, 0, 0]
    assert not (out / "weights").exists()
    train_lite(*material, small_recipe())
    assert steps(out) == [3] * 6


def test_the_folder_keeps_the_recipe_and_refuses_another(material):
    train_lite(*material, small_recipe())
    assert json.loads((material[2] / "recipe.json").read_text())["preset"]["name"] == "tiny"
    with pytest.raises(DataError, match="another recipe"):
        train_lite(*material, small_recipe(budget_s=2e-6))


def test_what_is_held_back_is_written_down_and_not_trained_on(tmp_path, monkeypatch):
    folders = tmp_path / "portraits", tmp_path / "speech", tmp_path / "run"
    write_material(folders[0], folders[1], folders[2] / "corpus", num_recordings=7)
    seen = []

    def watch(readers, *arguments, **options):
        seen.extend(reader.name for reader in readers)
        return make_takes(readers, *arguments, **options)

    monkeypatch.setattr(lite, "make_takes", watch)
    train_lite(*folders, small_recipe())
    chosen = json.loads((folders[2] / "split.json").read_text())
    assert chosen["readers"]["held"] == ["0.wav"]
    assert chosen["readers"]["train"] == seen == [f"{index}.wav" for index in range(1, 7)]
    assert chosen["portraits"] == {"train": ["a.png", "b.png"], "held": []}


def test_recordings_too_short_to_speak_are_refused(tmp_path):
    folders = tmp_path / "portraits", tmp_path / "speech", tmp_path / "run"
    write_material(*folders[:2], folders[2] / "corpus", num_samples=12_000)
    with pytest.raises(DataError, match="shorter than 4 s"):
        train_lite(*folders, small_recipe())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot keep a run"):
        train_lite(tmp_path, tmp_path, tmp_path / "file", small_recipe())


def test_takes_are_performances_by_random_portraits():
    sound = (0.2 * np.random.default_rng(0).standard_normal(80_000)).astype(np.float32)
    reader = Reader(name="a", samples=sound, phonemes=tuple(hear(sound)))
    audio = AudioFeatures(small_preset().audio)
    takes = make_takes([reader], portraits(), audio, hours=0.03, seed=0)
    lengths = [len(take.labels) for take in takes]
    assert sum(lengths) >= 0.03 * 3600 * 25
    assert min(lengths) >= 100
    people = [Rig.from_image(image, points) for image, points in zip(portraits().images, portraits().landmarks, strict=True)]
    resting = [rig.labels(rig.rest()[None])[0] for rig in people]
    states = set()
    for take in takes:
        assert take.windows.shape == (len(take.labels), 16, 80)
        assert any(np.array_equal(take.reference_labels, rest) for rest in resting)
        assert take.wishes.gaze.shape == (len(take.labels), 2)
        states |= set(take.wishes.state.tolist())
        # The head turns as it is told to have turned.
        yaw = in_units(take.labels, "yaw")
        np.testing.assert_allclose(np.degrees(take.wishes.head_pose[:, 0].numpy()), yaw, atol=1e-3)
    assert states == {0, 1, 2}
    again = make_takes([reader], portraits(), audio, hours=0.03, seed=0)
    assert all(np.array_equal(one.labels, two.labels) for one, two in zip(takes, again, strict=True))
    led = make_takes([reader], portraits(), audio, hours=0.03, seed=0, led_share=0.5)
    assert {take.is_led for take in led} == {True, False}
    for take, same in zip(led, takes, strict=True):
        assert np.array_equal(take.labels, same.labels) != take.is_led
        np.testing.assert_allclose(np.degrees(take.wishes.head_pose[:, 0].numpy()), in_units(take.labels, "yaw"), atol=1e-3)


def test_leading_about_moves_head_and_eyes_alone_and_keeps_to_what_they_can_do():
    motion = np.zeros((2_000, len(MOTION)), np.float32)
    led = lead_about(motion, np.random.default_rng(0))
    moved = {name for name in MOTION if led[:, COLUMN[name]].any()}
    assert moved == {"yaw", "pitch", "roll", "gaze_x", "gaze_y"}
    assert 8 < np.abs(led[:, COLUMN["yaw"]]).max() <= 12
    assert np.abs(led[:, COLUMN["gaze_x"]]).max() <= 0.9
    assert not motion.any()
