"""`vivavoz data animate` as a whole: killed, on a full disk, on a cluster, by another version, it ends with the same bytes."""

import signal
import subprocess
import sys

import numpy as np
import pytest
import skimage.data

from tests.unit.data.animation_material import PLANS, arguments, room_for, small_plan
from tests.unit.rig.test_rig import face_landmarks
from tests.unit.train.material import write_sound
from vivavoz.cli import main
from vivavoz.data import animation
from vivavoz.data.animation import ANIMATOR_VERSION
from vivavoz.data.corpus import prepare_portraits, prepare_speech
from vivavoz.data.phonemes import Phoneme
from vivavoz.data.shards.codec import CODEC_VERSION
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.tasks import TaskResult
from vivavoz.media.image import write_image


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A portrait and a recording, prepared, so that nobody has to find a face or hear words."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "portraits").mkdir()
    (folder / "speech").mkdir()
    write_image(folder / "portraits" / "astronaut.png", skimage.data.astronaut())
    write_sound(folder / "speech" / "reading.wav", 0.3 * np.random.default_rng(0).uniform(-1, 1, 8000))
    prepare_portraits(folder / "portraits", folder / "cache", detect=lambda image: face_landmarks(gap=0.01))
    prepare_speech(folder / "speech", folder / "cache", hear=lambda samples: [Phoneme(symbol="AA", start_s=0.1, end_s=0.4)])
    return folder


@pytest.fixture(scope="module")
def undisturbed(sources, tmp_path_factory):
    """What there is when nobody is killed."""
    corpus = tmp_path_factory.mktemp("undisturbed")
    with small_plan():
        assert main(arguments(sources, corpus)) == 0
    return contents(corpus)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_it_makes(undisturbed, tmp_path):
    for name, content in undisturbed.items():
        (tmp_path / name).write_bytes(content)
    manifest = Manifest.load(str(tmp_path))
    assert [clip.key for clip in manifest.clips()] == [plan.key for plan in PLANS]
    assert [len(shard.clips) for shard in manifest.shards] == [2, 1]
    assert manifest.made_by == f"animator {ANIMATOR_VERSION}, codec {CODEC_VERSION}"


def test_killed_with_all_its_processes_and_started_again_it_makes_the_same_bytes(sources, undisturbed, tmp_path):
    corpus, note = tmp_path / "corpus", tmp_path / "note"
    command = [sys.executable, "-m", "tests.unit.data.animation_material", sources, corpus, note]
    killed = subprocess.run(command, start_new_session=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list(corpus.glob(".animated-0-000000.tar.*.part")), "it was killed while it wrote"
    again = subprocess.run(command, start_new_session=True, check=False)
    assert again.returncode == 0
    assert contents(corpus) == undisturbed


def test_with_two_workers_of_a_cluster_one_of_them_killed_it_makes_the_same_bytes(sources, undisturbed, tmp_path, ray_cluster):
    corpus, note = tmp_path / "corpus", tmp_path / "note"
    with small_plan(note, "itself"):
        assert main(arguments(sources, corpus, "--ray", ray_cluster)) == 0
    assert note.exists(), "a worker was killed"
    assert contents(corpus) == undisturbed


@pytest.mark.parametrize("num_processes", ["1", "2"])
def test_on_a_full_disk_it_says_so_and_goes_on_when_there_is_room(sources, undisturbed, tmp_path, capsys, num_processes):
    corpus = tmp_path / "corpus"
    shards = sorted(name for name in undisturbed if name.endswith(".tar"))
    assert len(undisturbed[shards[0]]) < len(undisturbed[shards[1]]) - 1
    with small_plan():
        with room_for(len(undisturbed[shards[1]]) - 1):
            assert main(arguments(sources, corpus, "--processes", num_processes)) == 2
        told = [line for line in capsys.readouterr().err.splitlines() if "prepared" not in line]
        reason = "File too large; give a path that can be written, on a disk with room"
        assert told == [f"vivavoz: error: cannot write {corpus / shards[1]}: {reason}"]
        assert set(contents(corpus)) <= {shards[0], "animated-0-000000.json"}, "nothing is half written"
        assert main(arguments(sources, corpus)) == 0
    assert contents(corpus) == undisturbed


def test_what_an_older_animator_made_is_made_again(sources, tmp_path, monkeypatch):
    made = []

    def make_shard(task, **where):
        made.append(task.name)
        return TaskResult()

    monkeypatch.setattr(animation, "make_shard", make_shard)
    with small_plan():
        for version, num_made in ((1, 2), (1, 2), (2, 4), (2, 4)):
            monkeypatch.setattr(animation, "ANIMATOR_VERSION", version)
            assert main(arguments(sources, tmp_path)) == 0
            assert len(made) == num_made
            assert Manifest.load(str(tmp_path)).made_by.startswith(f"animator {version},")
