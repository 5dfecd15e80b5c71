import json
import signal
import subprocess
import sys
from functools import partial

import pytest

from tests.unit.data.task_material import JOBS, Job, work
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.tasks import run_tasks
from vivavoz.errors import ConfigError, DataError, OutputError

MANIFEST = "manifest.jsonl"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The corpus of all jobs when nobody is killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_tasks(JOBS, partial(work, folder=str(folder), calm=True), str(folder))
    return folder


def test_tasks_make_a_corpus_in_their_order(undisturbed):
    manifest = Manifest.load(str(undisturbed))
    assert [clip.key for clip in manifest.clips()] == ["a-0", "b-0", "c-0", "c-1", "e-0", "g-0"]
    assert [(one.source, one.reasons, one.detail) for one in manifest.rejected] == [
        ("d", ("broken",), "d is broken"),
        ("f", ("blurred",), ""),
    ]


def test_what_is_done_is_not_done_again_and_what_is_lost_is(undisturbed, tmp_path):
    folder, notes, news = tmp_path / "corpus", tmp_path / "notes", []
    notes.mkdir()
    run = partial(run_tasks, work=partial(work, folder=str(folder), notes=notes, calm=True), folder=str(folder))
    run(JOBS[:4])
    run(JOBS, report=news.append)
    assert [one.name for one in news] == ["e", "f", "g"]
    assert (news[1].skipped, news[2].num_done, news[2].num_files) == ("blurred", 3, 3)
    (folder / "c.tar").unlink()
    (folder / "g.tar").write_bytes((folder / "g.tar").read_bytes()[:-512])
    run(JOBS)
    assert {note.name: len(note.read_text().splitlines()) for note in notes.iterdir()} == {
        **dict.fromkeys("abdef", 1),
        **dict.fromkeys("cg", 2),
    }
    assert (folder / MANIFEST).read_bytes() == (undisturbed / MANIFEST).read_bytes()


def test_a_run_killed_with_all_its_processes_ends_the_same_when_started_again(undisturbed, tmp_path):
    folder, notes = tmp_path / "corpus", tmp_path / "notes"
    notes.mkdir()
    command = [sys.executable, "-m", "tests.unit.data.task_material", str(folder), str(notes), "2"]
    killed = subprocess.run([*command, "rough"], start_new_session=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / MANIFEST).exists()
    assert list(folder.glob(".e.tar.*.part")), "it was killed while it wrote"
    again = subprocess.run([*command, "calm"], start_new_session=True, check=False)
    assert again.returncode == 0
    assert (folder / MANIFEST).read_bytes() == (undisturbed / MANIFEST).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in undisturbed.iterdir())
    for path in undisturbed.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_a_task_whose_process_always_dies_is_left_out_and_tried_in_the_next_run(tmp_path):
    folder = str(tmp_path / "corpus")
    jobs = [Job(name="a"), Job(name="x", does="always dies"), Job(name="c")]
    first = run_tasks(jobs, partial(work, folder=folder), folder, num_processes=2)
    assert [clip.key for clip in first.clips()] == ["a-0", "c-0"]
    assert [(one.source, one.reasons, one.detail) for one in first.rejected] == [("x", ("failed",), "its process died 3 times")]
    second = run_tasks(jobs, partial(work, folder=folder, calm=True), folder)
    assert [clip.key for clip in second.clips()] == ["a-0", "x-0", "c-0"]


def test_an_unforeseen_error_spoils_one_task_only_and_is_tried_again(tmp_path):
    folder = str(tmp_path / "corpus")
    manifest = run_tasks([Job(name="x", does="stumbles"), Job(name="a")], partial(work, folder=folder), folder)
    assert manifest.rejected[0].detail == "ZeroDivisionError: nobody thought of that"
    assert [clip.key for clip in manifest.clips()] == ["a-0"]
    assert not (tmp_path / "corpus" / "x.json").exists()


def test_a_corpus_can_be_anywhere(undisturbed):
    run_tasks(JOBS, partial(work, folder="memory://elsewhere/corpus", calm=True), "memory://elsewhere/corpus")
    assert Manifest.load("memory://elsewhere/corpus") == Manifest.load(str(undisturbed))


def test_results_of_other_tasks_are_not_mistaken_for_these(tmp_path):
    folder = str(tmp_path)
    run = partial(run_tasks, work=partial(work, folder=folder), folder=folder)
    run([Job(name="a")])
    with pytest.raises(DataError, match="made from other sources or options"):
        run([Job(name="a", num_clips=2)])
    (tmp_path / "a.json").write_text(json.dumps({"mine": 1}))
    with pytest.raises(DataError, match="is not the result of a task"):
        run([Job(name="a")])


def test_what_another_version_made_is_made_again(undisturbed, tmp_path):
    folder, notes = str(tmp_path / "corpus"), tmp_path / "notes"
    notes.mkdir()
    run = partial(run_tasks, JOBS[:2], partial(work, folder=folder, notes=notes, calm=True), folder)
    for made_by, tries in (("test 1", 1), ("test 1", 1), ("test 2", 2), ("", 3), ("", 3)):
        assert run(made_by=made_by).made_by == Manifest.load(folder).made_by == made_by
        assert {note.name: len(note.read_text().splitlines()) for note in notes.iterdir()} == {"a": tries, "b": tries}
    shards = [shard for shard in Manifest.load(str(undisturbed)).shards if shard.name in ("a.tar", "b.tar")]
    assert Manifest.load(folder).shards == tuple(shards)


def full(job, folder):
    raise OutputError(f"cannot write {folder}/{job.name}.tar: No space left on device")


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_full_disk_ends_the_run(tmp_path, num_processes):
    with pytest.raises(OutputError, match="No space left"):
        run_tasks(JOBS, partial(full, folder=str(tmp_path)), str(tmp_path), num_processes=num_processes)
    assert list(tmp_path.iterdir()) == []


def test_runs_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="two tasks are called a"):
        run_tasks([Job(name="a"), Job(name="a")], work, str(tmp_path))
    with pytest.raises(ConfigError, match="got 0 processes"):
        run_tasks(JOBS, work, str(tmp_path), num_processes=0)


def test_two_workers_of_a_ray_cluster_make_the_same_corpus(undisturbed, tmp_path, ray_cluster):
    folder, notes = tmp_path / "corpus", tmp_path / "notes"
    notes.mkdir()
    jobs = [job if job.does != "kills all" else Job(name="e") for job in JOBS]
    manifest = run_tasks(jobs, partial(work, folder=str(folder), notes=notes), str(folder), ray_address=ray_cluster)
    with pytest.raises(OutputError, match="No space left"):
        run_tasks([Job(name="x")], partial(full, folder=str(folder)), str(folder), ray_address=ray_cluster)
    tries = {note.name: note.read_text().splitlines() for note in notes.iterdir()}
    assert len({node for nodes in tries.values() for node in nodes}) == 2, "both machines took part"
    assert len(tries["b"]) == 2, "the task that killed its worker was tried again"
    assert manifest == Manifest.load(str(undisturbed))
    assert (folder / MANIFEST).read_bytes() == (undisturbed / MANIFEST).read_bytes()


def test_a_cluster_that_is_not_there_is_said(tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'vivavoz[ray]'")
    with pytest.raises(ConfigError, match="cannot reach a Ray cluster"):
        run_tasks(JOBS[:1], work, str(tmp_path), ray_address="nonsense")
