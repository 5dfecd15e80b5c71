import pytest

from vivavoz.data.video.sources import Word, find_sources, read_align
from vivavoz.errors import DataError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")


def test_a_folder_of_videos(tmp_path):
    touch(tmp_path, "b.mp4", "a.mov", "a.mp4", "anna/one.MKV", "anna/two/three.webm", "notes.txt", "sound.wav")
    found = find_sources(tmp_path)
    assert found.layout == "folder"
    assert [(s.name, s.identity, s.origin) for s in found.sources] == [
        ("a_mov", "a", "a.mov"),
        ("a", "a", "a.mp4"),
        ("anna_one_mkv", "anna", "anna/one.MKV"),
        ("anna_two_three_webm", "anna", "anna/two/three.webm"),
        ("b", "b", "b.mp4"),
    ]
    assert {s.licence for s in found.sources} == {"unknown"}
    assert {s.licence for s in find_sources(tmp_path, licence="CC0").sources} == {"CC0"}


@pytest.mark.parametrize("above", ["dev/mp4", "mp4", "."])
def test_voxceleb2(tmp_path, above):
    touch(tmp_path / above, "id00012/21Uxsk56VDQ/00001.mp4", "id00012/21Uxsk56VDQ/00002.mp4", "id00015/-_aB3cD4eFg/00010.mp4")
    (tmp_path / above).parent.mkdir(parents=True, exist_ok=True)
    touch(tmp_path / above / "../aac", "id00012/21Uxsk56VDQ/00002.m4a")
    found = find_sources(tmp_path)
    assert found.layout == "voxceleb2"
    first, second, third = found.sources
    assert first.name == "id00012_21Uxsk56VDQ_00001"
    assert first.identity == "voxceleb2/id00012"
    assert first.origin == "https://www.youtube.com/watch?v=21Uxsk56VDQ"
    assert first.sound_path == ""
    assert second.sound_path.endswith("aac/id00012/21Uxsk56VDQ/00002.m4a") == (above != ".")
    assert third.name == "id00015_-_aB3cD4eFg_00010"


def test_a_stray_video_among_voxceleb2_is_told(tmp_path):
    touch(tmp_path, "mp4/id00012/21Uxsk56VDQ/00001.mp4", "mp4/extra.mp4")
    found = find_sources(tmp_path, "voxceleb2")
    assert len(found.sources) == 1
    assert [(r.source, r.reasons) for r in found.rejected] == [("mp4/extra.mp4", ("not in the layout",))]


def hdtf_lists(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RD_annotion_time.txt").write_text("Radio11.mp4 00:30-01:00 01:30-02:30\nRadio34.mp4 00:02-00:30\n")
    (folder / "RD_video_url.txt").write_text("Radio11 https://www.youtube.com/watch?v=XtySvTwIOfw\n")
    (folder / "RD_crop_wh.txt").write_text("Radio11_0.mp4 306 480 41 480\nRadio11_1.mp4 319 492 11 492\n")
    (folder / "WRA_annotion_time.txt").write_text("PaulRyan0.mp4 0:05-1:02:03\nPaulRyan1.mp4 soon\n")
    (folder / "WRA_video_url.txt").write_text("PaulRyan0 https://www.youtube.com/watch?v=abc\n")


@pytest.mark.parametrize("lists", [".", "HDTF_dataset"])
def test_hdtf_as_downloaded_whole(tmp_path, lists):
    hdtf_lists(tmp_path / lists)
    touch(tmp_path, "videos/Radio11.mp4", "_videos_raw/WRA_PaulRyan0.mp4", "videos/PaulRyan1.mp4")
    found = find_sources(tmp_path)
    assert found.layout == "hdtf"
    one, two, ryan = found.sources
    assert (one.name, one.start_s, one.end_s, one.region_px) == ("RD_Radio11_0", 30.0, 60.0, (306, 41, 480, 480))
    assert (two.name, two.start_s, two.end_s, two.region_px) == ("RD_Radio11_1", 90.0, 150.0, (319, 11, 492, 492))
    assert one.identity == two.identity == "hdtf/Radio11"
    assert one.origin == "https://www.youtube.com/watch?v=XtySvTwIOfw#00:30-01:00"
    assert (ryan.identity, ryan.start_s, ryan.end_s, ryan.region_px) == ("hdtf/PaulRyan", 5.0, 3723.0, None)
    assert {(r.reasons, r.source) for r in found.rejected} == {
        (("video missing",), "RD/Radio34"),
        (("list cannot be read",), "WRA_PaulRyan1_0"),
    }


def test_hdtf_split_into_parts_already(tmp_path):
    hdtf_lists(tmp_path)
    touch(tmp_path, "Radio11_0.mp4", "clips/RD_Radio11_001.mp4")
    one, two = find_sources(tmp_path).sources
    assert (one.start_s, one.end_s) == (two.start_s, two.end_s) == (0.0, None)
    assert two.path.endswith("RD_Radio11_001.mp4")


ALIGN = "0 17500 sil\n17500 23000 bin\n23000 30500 blue\n30500 31000 sp\nbroken\n49000 57250 again\n57250 74500 sil\n"


def test_grid_beside_its_words(tmp_path):
    touch(tmp_path / "grid_s1", "bbaf2n.mp4", "bbaf3s.mpg")
    (tmp_path / "grid_s1" / "bbaf2n.align").write_text(ALIGN)
    found = find_sources(tmp_path / "grid_s1")
    assert found.layout == "grid"
    first, second = found.sources
    assert (first.name, first.identity, first.licence) == ("s1_bbaf2n", "grid/s1", "CC BY 4.0")
    assert first.words[0] == Word(text="bin", start_s=0.7, end_s=0.92)
    assert [word.text for word in first.words] == ["bin", "blue", "again"]
    assert second.words == ()


def test_grid_of_many_speakers_with_words_in_a_folder(tmp_path):
    touch(tmp_path, "s1/video/bbaf2n.mpg", "s34/video/bbaf2n.mpg")
    for speaker in ("s1", "s34"):
        (tmp_path / speaker / "align").mkdir()
        (tmp_path / speaker / "align" / "bbaf2n.align").write_text(ALIGN)
    found = find_sources(tmp_path)
    assert found.layout == "grid"
    assert [(s.name, s.identity, len(s.words)) for s in found.sources] == [
        ("s1_bbaf2n", "grid/s1", 3),
        ("s34_bbaf2n", "grid/s34", 3),
    ]
    assert read_align(tmp_path / "s1" / "align" / "bbaf2n.align") == found.sources[0].words


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        find_sources(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no videos"):
        find_sources(tmp_path)
    touch(tmp_path, "a b.mp4", "a_b.mp4")
    with pytest.raises(DataError, match="come to the name a_b"):
        find_sources(tmp_path)
    with pytest.raises(DataError, match=r"none of 2 videos in .* fits the layout voxceleb2"):
        find_sources(tmp_path, "voxceleb2")
