import hashlib
import tarfile

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.unit.data.shards.material import make_clip
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.codec import decode_clip
from vivavoz.data.shards.manifest import Manifest, Rejection, split_of
from vivavoz.data.shards.storage import read_bytes, size_of
from vivavoz.errors import DataError, OutputError


@pytest.fixture(scope="module")
def clips():
    return [make_clip("anna-1", num_frames=3), make_clip("anna-2", num_frames=5), make_clip("bo-1", identity="bo", num_frames=2)]


def test_a_shard_is_an_ordinary_tar_grouped_by_key(tmp_path, clips):
    url = str(tmp_path / "new" / "a.tar")
    shard = write_shard(url, clips)
    content = (tmp_path / "new" / "a.tar").read_bytes()
    assert (shard.name, shard.num_bytes, shard.sha256) == ("a.tar", len(content), hashlib.sha256(content).hexdigest())
    with tarfile.open(url) as archive:
        names = archive.getnames()
        assert [name.split(".", 1)[0] for name in names] == ["anna-1"] * 5 + ["anna-2"] * 5 + ["bo-1"] * 5
        members = {name.split(".", 1)[1]: archive.extractfile(name).read() for name in names if name.startswith("anna-2.")}
    assert decode_clip(members).info == clips[1].info
    places = shard.clips[1].members
    assert {suffix: read_bytes(url, start, start + size) for suffix, (start, size) in places.items()} == members


def test_the_webdataset_library_reads_it(tmp_path, clips):
    webdataset = pytest.importorskip("webdataset")
    write_shard(str(tmp_path / "a.tar"), clips)
    samples = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["anna-1", "anna-2", "bo-1"]
    wanted = ("json", "npz", "flac", "256.mp4", "512.mp4")
    assert decode_clip({suffix: samples[2][suffix] for suffix in wanted}).info == clips[2].info


def test_the_same_clips_give_the_same_bytes_at_any_url(tmp_path, clips):
    local = write_shard(str(tmp_path / "a.tar"), clips)
    remote = write_shard("memory://corpus/deep/a.tar", iter(clips))
    assert local == remote
    with fsspec.open("memory://corpus/deep/a.tar", "rb") as file:
        assert file.read() == (tmp_path / "a.tar").read_bytes()


def test_a_failure_half_way_leaves_no_file(tmp_path, clips):
    def breaking():
        yield clips[0]
        raise DataError("broken")

    for url in (str(tmp_path / "a.tar"), "memory://nothing/a.tar"):
        with pytest.raises(DataError, match="broken"):
            write_shard(url, breaking())
        with pytest.raises(DataError, match=r"two clips of .* have the key anna-1"):
            write_shard(url, [clips[0], clips[0]])
    assert list(tmp_path.iterdir()) == []
    assert not fsspec.filesystem("memory").exists("/nothing/a.tar")


def test_no_clips_make_no_shard(tmp_path):
    assert write_shard(str(tmp_path / "a.tar"), []) is None
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said(tmp_path, clips):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_shard(str(tmp_path / "file" / "a.tar"), clips)
    with pytest.raises(OutputError, match="cannot open nowhere://"):
        write_shard("nowhere://a.tar", clips)


def test_a_full_disk_is_said_and_nothing_is_left(clips):
    with pytest.raises(OutputError, match=r"cannot write /dev/full/a\.tar"):
        write_shard("/dev/full/a.tar", clips)


def test_a_store_that_does_not_answer_is_said(clips, monkeypatch):
    class NobodyListensError(Exception):
        """Every store's library has errors of its own."""

    def refuse(*path, **more):
        raise NobodyListensError("could not connect")

    for name in ("cat_file", "info", "put_file"):
        monkeypatch.setattr(MemoryFileSystem, name, refuse)
    for ask in (read_bytes, size_of):
        with pytest.raises(DataError, match=r"cannot read memory://corpus/a\.tar: could not connect; check the path"):
            ask("memory://corpus/a.tar")
    with pytest.raises(OutputError, match=r"cannot write memory://corpus/a\.tar: could not connect; check the path"):
        write_shard("memory://corpus/a.tar", clips)


def test_manifest_comes_back_and_counts(tmp_path, clips):
    manifest = Manifest(
        shards=(write_shard(str(tmp_path / "a.tar"), clips),),
        rejected=(
            Rejection(source="x.mp4", reasons=("blurred", "no face"), start_s=1.0, seconds=2.5),
            Rejection(source="y.mp4", reasons=("blurred",), detail="sharpness 3"),
        ),
    )
    manifest.save(str(tmp_path))
    assert Manifest.load(str(tmp_path)) == manifest
    summary = manifest.summary()
    assert (summary["clips"], summary["identities"], summary["frames"], summary["seconds"]) == (3, 2, 10, 0.4)
    assert summary["reasons"] == {"blurred": 2, "no face": 1}
    assert sum(part["clips"] for part in summary["splits"].values()) == 3


def test_a_damaged_manifest_is_not_half_read(tmp_path, clips):
    path = tmp_path / "manifest.jsonl"
    with pytest.raises(DataError, match="cannot read"):
        Manifest.load(str(tmp_path))
    Manifest(shards=(write_shard(str(tmp_path / "a.tar"), clips),)).save(str(tmp_path))
    text = path.read_text()
    for damaged in ("", text[:40], text[:-30], text.splitlines()[0], text.replace('"version": 1', '"version": 9')):
        path.write_text(damaged)
        with pytest.raises(DataError, match="again"):
            Manifest.load(str(tmp_path))


def test_nobody_is_in_two_splits_and_no_key_comes_twice(tmp_path):
    two = write_shard(str(tmp_path / "a.tar"), [make_clip("a", num_frames=1, split=split) for split in ("train",)])
    other = write_shard(str(tmp_path / "b.tar"), [make_clip("b", num_frames=1, split="test")])
    with pytest.raises(DataError, match="anna is in two splits"):
        Manifest(shards=(two, other))
    with pytest.raises(DataError, match="two clips have the key a"):
        Manifest(shards=(two, two))


def test_splits_are_stable_and_near_their_shares():
    people = [f"person {number}" for number in range(4000)]
    splits = [split_of(person, validation=0.1, test=0.2) for person in people]
    assert splits == [split_of(person, validation=0.1, test=0.2) for person in people]
    assert 0.17 < splits.count("test") / 4000 < 0.23
    assert 0.08 < splits.count("validation") / 4000 < 0.12
