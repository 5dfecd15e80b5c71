"""The paper's tables over a small corpus with a small model, the videos' folders, and the command."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models import lively_model, tiniest
from tests.unit.data.shards.material import make_clip
from vivavoz.cli import main
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.manifest import Manifest
from vivavoz.errors import ConfigError, DataError
from vivavoz.evaluate.fidelity import rebuild, to_video
from vivavoz.evaluate.videos import generation_tables, paper_tables, reconstruction_table
from vivavoz.evaluate.videos.folders import evaluate_videos, pair_videos
from vivavoz.evaluate.videos.generation_tables import GenerationRun, run_generation_table, settings_of
from vivavoz.evaluate.videos.judges import Judges
from vivavoz.evaluate.videos.protocol import Selection, choose_segments, claim, read_segment, references_of, resized
from vivavoz.evaluate.videos.reconstruction_table import ReconstructionRun, reconstruct, run_reconstruction_table
from vivavoz.evaluate.videos.table import Row, Table, chart, to_markdown, write_table
from vivavoz.media.image import read_image


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    clips = [make_clip(f"{who}-{i}", identity=who, num_frames=9) for who in ("anna", "bert", "carl") for i in range(3)]
    Manifest(shards=(write_shard(str(folder / "a.tar"), clips),)).save(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def model():
    return lively_model(tiniest())


def selection(corpus, **more):
    return Selection(folder=corpus, num_people=1, segments_per_person=2, max_frames=9, **more)


def test_two_segments_of_each_person(corpus):
    chosen = choose_segments(Selection(folder=corpus, num_people=2))
    assert [one.key for one in chosen] == ["anna-0", "anna-1", "bert-0", "bert-1"]
    with pytest.raises(ConfigError, match="expected >= 1"):
        Selection(folder=corpus, num_people=0)


def test_references_are_first_last_and_middle(corpus):
    clip = read_segment(selection(corpus), choose_segments(selection(corpus))[0])
    for count, frames in ((1, [0]), (2, [0, 8]), (3, [0, 8, 4])):
        found = references_of(clip, count)
        assert len(found) == count
        for image, frame in zip(found, frames, strict=True):
            assert (image == clip.frames[frame]).all()


def test_rows_of_the_tables():
    assert [one.num_references for one in settings_of("table1")] == [1, 2, 3]
    assert [one.num_references for one in settings_of("tableI")] == [1]
    scales = [(one.guidance_audio, one.guidance_reference) for one in settings_of("tableII")]
    assert scales == [(1, 1), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3)]


def test_the_papers_rows():
    ours = {row.label: row.scores for row in paper_tables.table_1_rows("hdtf")}
    assert ours["paper, M = 1"] == {
        "syncnet_confidence": 8.943, "syncnet_distance": 6.286, "capp": 0.699, "fvd25": 62.3, "fps": 42.3,
    }  # fmt: skip
    assert "FantasyTalking" not in {row.label for row in paper_tables.table_1_rows("portrait-one-min")}
    gains = [row.scores.get("psnr_gain_db") for row in paper_tables.table_2_rows("hdtf")]
    assert gains == [None, 3.762, 4.357, 4.843, None, 4.791, 5.832, 6.696]  # as the paper prints them
    gains = [row.scores.get("psnr_gain_db") for row in paper_tables.table_2_rows("voxceleb2")]
    assert gains == [None, 2.605, 3.234, 3.695, None, 2.75, 3.677, 4.375]
    assert len(paper_tables.table_i_rows("hdtf")) == 3
    assert len(paper_tables.table_ii_rows("hdtf")) == 6
    assert paper_tables.table_ii_rows("voxceleb2") == ()


def test_a_run_goes_on_where_it_was(corpus, model, tmp_path, monkeypatch):
    run = GenerationRun(table="table1", selection=selection(corpus))
    made = []
    whole = generation_tables.render
    monkeypatch.setattr(generation_tables, "render", lambda *args, **more: made.append(args[2]) or whole(*args, **more))
    first = run_generation_table(run, model, Judges(skipped=("S_C: fetch it",)), None, tmp_path)
    num_rows = len(settings_of("table1", model.preset.generator.max_references))
    assert len(made) == 2 * num_rows
    made[0].unlink()
    (tmp_path / "scores" / "M1" / "anna-1.json").unlink()
    again = run_generation_table(run, model, Judges(skipped=("S_C: fetch it",)), None, tmp_path)
    assert len(made) == 2 * num_rows + 1
    for one, other in zip(first.rows, again.rows, strict=True):
        before, after = dict(one.scores), dict(other.scores)
        before.pop("fps", None), after.pop("fps", None)
        assert before == pytest.approx(after)
    labels = [row.label for row in first.rows]
    assert labels[0] == "here, M = 1"
    assert "real videos" in labels
    assert "paper, M = 3" in labels
    assert any("S_C: fetch it" in note for note in first.notes)
    other = GenerationRun(table="table1", selection=selection(corpus), seed=1)
    with pytest.raises(ConfigError, match="holds another run"):
        run_generation_table(other, model, Judges(), None, tmp_path)


def test_a_mistake_claims_no_folder(corpus, model, tmp_path):
    nobody = GenerationRun(table="table1", selection=replace(selection(corpus), split="validation"))
    with pytest.raises(DataError, match="no clips in split"):
        run_generation_table(nobody, model, Judges(), None, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="got 0 steps"):
        GenerationRun(table="table1", selection=selection(corpus), num_steps=0)


def test_heads_and_portraits_are_not_mixed(corpus):
    with pytest.raises(ConfigError, match="head crop in tableI"):
        GenerationRun(table="tableI", selection=selection(corpus))
    GenerationRun(table="tableI", selection=selection(corpus, head=True))


def test_reconstruction_as_a_stream_is_that_of_the_whole_clip(corpus, model, monkeypatch):
    monkeypatch.setattr(reconstruction_table, "_CHUNK_FRAMES", 4)  # 5 pictures, then 4
    clip = resized(read_segment(selection(corpus), choose_segments(selection(corpus))[0]), model.preset.output_size)
    found = reconstruct(model, clip, 1)
    with torch.inference_mode():
        references = model.avatar(references_of(clip, 1), crop="none").references
        whole = rebuild(model.vae, model.vae.encode(to_video(clip.frames)).mean, references)
    assert found.shape == clip.frames.shape == (9, 64, 64, 3)
    assert np.abs(whole.astype(int) - found).max() <= 1


def test_table_2_has_a_row_for_every_number_of_references(corpus, model, tmp_path):
    run = ReconstructionRun(selection=selection(corpus), reference_counts=(0, 1))
    table = run_reconstruction_table(run, {"tiny": model, "again": model}, Judges(), tmp_path)
    assert [row.label for row in table.rows[:4]] == ["tiny, M = 0", "tiny, M = 1", "again, M = 0", "again, M = 1"]
    gain = table.rows[1].scores["psnr_db"] - table.rows[0].scores["psnr_db"]
    assert table.rows[1].scores["psnr_gain_db"] == pytest.approx(gain)
    assert table.rows[1].scores == pytest.approx(table.rows[3].scores)
    assert {"l1", "psnr_db", "ssim"} <= set(table.rows[0].scores)


def test_reports_say_where_numbers_are_from(tmp_path):
    table = Table(
        title="A table",
        rows=(
            Row(label="here", scores={"l1": 0.02, "psnr_db": float("inf")}, num_clips=3),
            Row(label="theirs", scores={"l1": 0.01, "fvd25": 62.3}, source="paper, table 1, HDTF"),
            Row(label="unlike", scores={"lip_r": -0.5}, num_clips=3),
        ),
        notes=("Left out. S_C: fetch it.",),
    )
    write_table(table, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| here | 3 |  | 0.0200 |  |  | here |" in text
    assert "| theirs |  | 62.3 | 0.0100 |  |  | paper, table 1, HDTF |" in text
    assert "- Left out. S_C: fetch it." in text
    assert text == to_markdown(table)
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["rows"][0]["scores"]["psnr_db"] is None
    assert read_image(tmp_path / "chart.png").shape == chart(table).shape
    blue = (chart(table) == (46, 110, 180)).all(axis=2).sum()
    grey = (chart(table) == (176, 184, 196)).all(axis=2).sum()
    assert blue > 0
    assert grey > blue  # of two bars of L1 ours is longer, but theirs has one of FVD too, and one below zero is hollow


def test_folders_are_paired_by_name(tmp_path, corpus, model):
    run = GenerationRun(table="table1", selection=selection(corpus))
    run_generation_table(run, model, Judges(), None, tmp_path / "run")
    made = tmp_path / "run" / "videos" / "M1"
    pairs = pair_videos(made, made)
    assert [pair.name for pair in pairs] == ["anna-0", "anna-1"]
    table = evaluate_videos(pairs, Judges(), None, tmp_path / "scores")
    assert table.rows[0].scores["psnr_db"] == 100
    assert table.rows[1].label == "real"
    kept = tmp_path / "scores" / "generated" / "anna-0.json"
    content = json.loads(kept.read_text())
    content["result"]["scores"]["psnr_db"] = 50.0
    kept.write_text(json.dumps(content))
    assert evaluate_videos(pairs, Judges(), None, tmp_path / "scores").rows[0].scores["psnr_db"] == 75  # kept, not made again
    other = Judges(weights={"syncnet": "other.model 123"})
    assert evaluate_videos(pairs, other, None, tmp_path / "scores").rows[0].scores["psnr_db"] == 100  # other judges
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no videos"):
        pair_videos(tmp_path / "empty")
    (tmp_path / "empty" / "else.mp4").write_bytes((made / "anna-0.mp4").read_bytes())
    with pytest.raises(DataError, match="no video of"):
        pair_videos(tmp_path / "empty", made)


def test_a_folder_is_claimed_by_one_run(tmp_path):
    claim(tmp_path / "run", {"seed": 0})
    claim(tmp_path / "run", {"seed": 0})
    with pytest.raises(ConfigError, match="another run"):
        claim(tmp_path / "run", {"seed": 1})


def test_commands(corpus, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vivavoz.engine.weights.load", lambda name, device: model)
    monkeypatch.setattr("vivavoz.rig.landmarks.mediapipe_solutions", _nothing)
    arguments = ["--people", "1", "--segments", "1", "--max-frames", "5", "-o", str(tmp_path / "t2")]
    assert main(["evaluate", "table2", corpus, *arguments]) == 0
    printed = capsys.readouterr()
    assert "| lite, M = 1 | 1 |" in printed.out
    assert "left out: S_C, S_D: fetch syncnet_v2.model" in printed.err
    arguments[-1] = str(tmp_path / "t1")
    assert main(["evaluate", "table1", corpus, *arguments]) == 0
    printed = capsys.readouterr()
    assert "| here, M = 1 | 1 |" in printed.out
    assert "needs landmarks" in printed.err
    videos = tmp_path / "t1" / "videos" / "M1"
    assert main(["evaluate", "videos", str(videos), "--real", str(videos), "-o", str(tmp_path / "v")]) == 0
    assert "| generated | 1 |" in capsys.readouterr().out
    assert main(["evaluate", "videos", str(videos), "-o", str(tmp_path / "v"), "--syncnet", "nowhere"]) == 2
    assert "is no file" in capsys.readouterr().err
    assert main(["evaluate", "table2", corpus, "--variant", "x", "-o", str(tmp_path / "t3")]) == 2
    assert "NAME=FOLDER" in capsys.readouterr().err


def _nothing():
    raise DataError("no MediaPipe here")


def test_a_little_below_zero_is_no_minus_zero():
    table = Table(title="A table", rows=(Row(label="here", scores={"sync_offset_frames": -0.5}, num_clips=2),))
    assert "| here | 2 | 0 |" in to_markdown(table)
