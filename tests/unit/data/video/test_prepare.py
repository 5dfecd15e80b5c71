import os
import sys

import pytest

from tests.unit.data.video.material import MarkedFaces, loud_is_voice, simple_senses, write_talking
from vivavoz.cli import main
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.video import prepare as preparing
from vivavoz.data.video.prepare import describe, prepare
from vivavoz.data.video.sources import find_sources
from vivavoz.errors import DataError, OutputError


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two people in three videos, and a broken one."""
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(("anna/one.mp4", "anna/two.mp4", "bert.mp4")):
        write_talking(folder / name, seconds=2, seed=seed)
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(preparing, "GROUP_SOURCES", 2)


def test_a_folder_becomes_a_corpus(videos, tmp_path):
    found, news = find_sources(videos), []
    manifest = prepare(found, str(tmp_path / "corpus"), open_senses=simple_senses, report=news.append)
    assert [clip.key for clip in manifest.clips()] == ["anna_one_000000", "anna_two_000000", "bert_000000"]
    assert [clip.identity for clip in manifest.clips()] == ["anna", "anna", "bert"]
    assert [(one.source, one.reasons) for one in manifest.rejected] == [("broken.mp4", ("unreadable",))]
    assert Manifest.load(str(tmp_path / "corpus")) == manifest
    assert [one.name for one in news] == ["video-00000", "video-00001"]
    assert describe(manifest, 4) == ["3 clips, 0.1 minutes, 2 people, from 4 videos; 1 pieces left out", "  1 x unreadable"]


def test_a_run_that_is_stopped_goes_on_and_ends_with_the_same_bytes(videos, tmp_path):
    found = find_sources(videos)
    prepare(found, str(tmp_path / "whole"), open_senses=simple_senses)
    calls = []

    def stops_in_the_second_task():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return simple_senses()

    with pytest.raises(KeyboardInterrupt):
        prepare(found, str(tmp_path / "again"), open_senses=stops_in_the_second_task)
    assert not (tmp_path / "again" / "manifest.jsonl").exists()
    prepare(found, str(tmp_path / "again"), open_senses=stops_in_the_second_task)
    assert len(calls) == 3
    names = sorted(os.listdir(tmp_path / "whole"))
    assert names == sorted(os.listdir(tmp_path / "again"))
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_all_can_be_put_in_one_split(videos, tmp_path):
    manifest = prepare(find_sources(videos).put_in("test"), str(tmp_path / "corpus"), open_senses=simple_senses)
    assert [clip.split for clip in manifest.clips()] == ["test"] * 3


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_videos(videos):
    with pytest.raises(OutputError, match="cannot write"):
        prepare(find_sources(videos), "/dev/full/corpus", open_senses=simple_senses)


def test_without_mediapipe_it_says_what_to_install(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe.python", None)
    with pytest.raises(DataError, match=r"mediapipe==0\.10\.21"):
        prepare(find_sources(videos), str(tmp_path / "corpus"))
    assert not (tmp_path / "corpus").exists()


def test_the_command_line(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(preparing, "MediaPipeFaces", MarkedFaces)
    monkeypatch.setattr(preparing, "voice_activity", loud_is_voice)
    corpus = str(tmp_path / "corpus")
    assert main(["data", "prepare", str(videos), "-o", corpus, "--licence", "CC0", "--limit", "min_crop_px=220"]) == 0
    assert capsys.readouterr().out.startswith(f"{corpus}: 3 clips")
    assert {clip.licence for clip in Manifest.load(corpus).clips()} == {"CC0"}
    # Other limits would make another corpus.
    assert main(["data", "prepare", str(videos), "-o", corpus, "--licence", "CC0"]) == 2
    assert "other sources or options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "beauty=3"], "expected NAME=VALUE with one of max_covered"),
        (["--limit", "min_crop_px=big"], "expected a number after the ="),
        (["--layout", "voxceleb2"], "fits the layout voxceleb2"),
    ],
)
def test_wrong_options_are_told_in_one_line(videos, tmp_path, arguments, message, capsys):
    assert main(["data", "prepare", str(videos), "-o", str(tmp_path / "corpus"), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
