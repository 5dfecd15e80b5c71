import json
import zlib
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.data.shards.material import make_clip
from tests.unit.evaluate.material import material, tiniest_model
from tests.unit.rig.test_rig import face_landmarks
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.manifest import Manifest
from vivavoz.errors import OutputError
from vivavoz.evaluate import background, evaluation, likeness, lips, states, steering, stillness
from vivavoz.evaluate.background import BackgroundConfig
from vivavoz.evaluate.clips import read_clips
from vivavoz.evaluate.evaluation import Contender, EvaluationConfig, Exam, evaluate
from vivavoz.evaluate.likeness import LikenessConfig, choose_descriptor
from vivavoz.evaluate.lips import LipsConfig
from vivavoz.evaluate.reconstruction import ReconstructionConfig
from vivavoz.evaluate.report import write_report
from vivavoz.evaluate.speaking import with_sampling
from vivavoz.evaluate.states import StatesConfig
from vivavoz.evaluate.steering import SteeringConfig
from vivavoz.evaluate.stillness import StillnessConfig
from vivavoz.evaluate.tables import to_markdown
from vivavoz.media.image import read_image
from vivavoz.train.perceptual import choose_perceptual

CONFIG = EvaluationConfig(
    reconstruction=ReconstructionConfig(num_portraits=1, num_frames=5, size=64, reference_counts=(0, 1)),
    lips=LipsConfig(num_pairs=1, num_frames=13, pictures_per_sample=3),
    stillness=StillnessConfig(num_portraits=1, num_latent_portraits=1, speech_s=1, silence_s=2, size=None),
    likeness=LikenessConfig(num_portraits=1, num_frames=13, num_shown=4, num_scored=2),
    background=BackgroundConfig(num_portraits=1, moments_s=(0, 1)),
    steering=SteeringConfig(num_portraits=1, seconds=1, ruler=False, size=None),
    states=StatesConfig(num_portraits=1, blocks_before=1, blocks_after=1, size=None),
    landmarks=False,
)


def exam(**changes):
    return Exam(
        config=replace(CONFIG, **changes),
        material=material(),
        perceptual=choose_perceptual(),
        descriptor=choose_descriptor(),
    )


def contenders():
    guided = with_sampling(tiniest_model(), replace(tiniest_model().preset.sampling, num_steps=2, guidance_audio=2))
    return [Contender(name="few", model=tiniest_model()), Contender(name="guided", model=guided)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Everything that needs no landmarks, of two ways of sampling."""
    folder = tmp_path_factory.mktemp("report")
    told = []
    findings = evaluate(
        contenders(), exam(), folder, progress=told.append, on_part=lambda found: write_report(found, exam(), folder)
    )
    return folder, findings, told


def test_report_holds_all_figures_of_all_contenders(measured):
    folder, findings, told = measured
    found = json.loads((folder / "report.json").read_text())
    few, guided = found["weights"]
    assert (few["name"], few["sampling"]["num_steps"], guided["sampling"]["num_steps"]) == ("few", 1, 2)
    kinds = [(row["kind"], row["num_references"]) for row in few["reconstruction"]["fidelities"]]
    assert kinds == [("copy", 1), ("encoder", 0), ("encoder", 1), ("labels", 0), ("labels", 1)]
    assert few["reconstruction"] == guided["reconstruction"]  # the same VAE
    assert few["lip_summaries"]["truth"]["r"] == pytest.approx(1)
    assert few["steering"] is None  # needs landmarks
    assert few["background"]["moments_s"] == [0, 1]
    # One step of one branch against two of two; both make one clean pass.
    assert 1.8 < guided["generator_gflop_per_frame"] / few["generator_gflop_per_frame"] < 4
    assert "few: reconstruction: 1/1 portraits" in told
    assert read_image(folder / "few-reconstruction.png").shape[1] == 4 * 192
    assert read_image(folder / "guided-background.png").shape[1] == 3 * 192
    assert len(findings) == 2


def test_tables_name_every_contender_and_baseline(measured):
    folder, findings, _ = measured
    text = (folder / "report.md").read_text()
    assert text == to_markdown(findings, exam())
    assert "# Evaluation of `few`, `guided`" in text
    copied = findings[0].reconstruction.fidelities[0].score
    assert f"| animated clips, M = 1 | >= 30 dB | {copied.psnr_db:.2f} dB |" in text
    assert "| loudness alone | 1 | " in text
    ratio = findings[1].generator_gflop_per_frame / findings[0].generator_gflop_per_frame
    assert f"| {ratio:.1f} x |" in text
    assert "## Controls" not in text


def test_what_was_measured_is_not_measured_again(measured, monkeypatch):
    folder, findings, _ = measured

    def never(*arguments):
        raise AssertionError("measured again")

    monkeypatch.setattr(evaluation, "evaluate_reconstruction", never)
    monkeypatch.setattr(evaluation, "evaluate_lips", never)
    again = evaluate(contenders(), exam(), folder)
    assert [one.reconstruction for one in again] == [one.reconstruction for one in findings]
    with pytest.raises(AssertionError, match="again"):  # another question
        evaluate(contenders(), exam(reconstruction=ReconstructionConfig(num_portraits=1, num_frames=9, size=64)), folder)
    next(folder.glob("parts/few-lips.json")).write_text("{")
    with pytest.raises(AssertionError, match="again"):  # damaged
        evaluate(contenders(), exam(), folder)


class Mesh:
    """A face found in every picture, of a mouth and a pose that depend on the picture alone."""

    def __enter__(self):
        def find(image):
            chance = np.random.default_rng(zlib.crc32(np.ascontiguousarray(image)))
            return face_landmarks(gap=chance.uniform(0, 0.1), yaw=chance.uniform(-5, 5)) * np.float32(64 / 512)

        return find

    def __exit__(self, *_):
        pass


def test_faces_found_in_pictures_are_measured_too(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "face_mesh", Mesh)
    whole = exam(landmarks=True)
    findings = evaluate(contenders()[:1], whole, tmp_path)
    write_report(findings, whole, tmp_path)
    text = (tmp_path / "report.md").read_text()
    for heading in ("Lips while nothing", "Likeness", "Background", "Controls", "Changes of state"):
        assert f"## {heading}" in text
    assert "| `few` | speaking to listening | " in text
    assert read_image(tmp_path / "few-likeness.png").shape == (2 * 192, 2 * 192, 3)
    (found,) = findings
    assert found.steering is not None
    assert abs(found.steering.model[0].r) < 0.7  # poses at random


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_gives_the_same_report(tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    monkeypatch.setattr(evaluation, "face_mesh", Mesh)
    clips = replace(CONFIG.clips, num_clips=2, num_frames=5, size=64)
    shard = write_shard(str(tmp_path / "clips.tar"), [make_clip(key, split="test") for key in ("anna-1", "anna-2")])
    Manifest(shards=(shard,)).save(str(tmp_path))
    two = exam(
        landmarks=True,
        clips=clips,
        reconstruction=replace(CONFIG.reconstruction, num_portraits=2),
        lips=replace(CONFIG.lips, num_pairs=2, num_ruler_pairs=1),
        likeness=replace(CONFIG.likeness, num_portraits=2),
        steering=replace(CONFIG.steering, ruler=True),
    )
    two = replace(two, clips=read_clips(str(tmp_path), clips))
    made: list[str] = []
    for module in (lips, stillness, background, likeness, steering, states):
        spoken = module.speak
        monkeypatch.setattr(module, "speak", lambda *args, _spoken=spoken, **more: made.append("") or _spoken(*args, **more))
    whole: list[str] = []
    evaluate(contenders()[:1], two, tmp_path / "whole", progress=whole.append)
    num_streams, killed = len(made), []

    def kill_once_after_each(line):
        if line not in killed:
            killed.append(line)
            raise Killed

    def go_on():
        try:
            return evaluate(contenders()[:1], two, tmp_path / "killed", progress=kill_once_after_each)
        except Killed:
            return None

    rounds = 0
    while (findings := go_on()) is None:
        rounds += 1
    assert killed == whole  # every line told once, and killed at each
    assert rounds == len(whole) > 16
    assert len(made) == 2 * num_streams  # each once again
    write_report(findings, two, tmp_path / "killed")
    write_report(evaluate(contenders()[:1], two, tmp_path / "whole"), two, tmp_path / "whole")
    for name in ("report.json", "report.md"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    sheets = sorted(path.name for path in (tmp_path / "whole").glob("*.png"))
    assert len(sheets) == 5
    for name in sheets:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {path.suffix for path in (tmp_path / "killed" / "parts").iterdir()} == {".json"}  # pieces of whole parts are gone


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_report([], exam(), tmp_path / "file" / "report")
