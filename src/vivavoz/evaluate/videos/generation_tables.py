"""Tables 1, I and II of the paper over a corpus: real clips' sound and pictures drive the model; its videos are judged.

Every video and every score is kept as soon as it is there, and nothing that is there is made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Literal

from vivavoz.config_json import to_plain
from vivavoz.engine.generate import render
from vivavoz.engine.model import Model
from vivavoz.errors import ConfigError
from vivavoz.evaluate.faces import FindLandmarks
from vivavoz.evaluate.kept import Kept, fingerprint, state_of
from vivavoz.evaluate.videos import paper_tables
from vivavoz.evaluate.videos.clips import TalkingClip, read_clip
from vivavoz.evaluate.videos.folders import notes
from vivavoz.evaluate.videos.judges import Judges
from vivavoz.evaluate.videos.paper_tables import Benchmark
from vivavoz.evaluate.videos.protocol import (
    Segment,
    Selection,
    amount,
    choose_segments,
    claim,
    read_segment,
    references_of,
    resized,
)
from vivavoz.evaluate.videos.scoring import ClipScores, score_against, score_alone, summarise_scores, video_distance
from vivavoz.evaluate.videos.table import Column, Row, Table
from vivavoz.media.output import whole_file, writing

TableName = Literal["table1", "tableI", "tableII"]
TITLES = {
    "table1": "Table 1: audio-driven portraits",
    "tableI": "Table I: audio-driven heads",
    "tableII": "Table II: guidance scales",
}
_FPS = {"fps": Column(label="FPS", digits=1)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One way to generate: a row of a table."""

    name: str
    """Of its folder."""
    label: str
    num_references: int = 1
    guidance_audio: float | None = None
    """None takes the preset's."""
    guidance_reference: float | None = None


def settings_of(table: TableName, max_references: int = 3) -> tuple[Setting, ...]:
    """The rows a table has of one's own model: M = 1, 2, 3 as far as the preset takes them; M = 1; six pairs of scales."""
    if table == "tableII":
        return tuple(
            Setting(
                name=f"a{audio:g}-r{reference:g}",
                label=f"here, audio {audio:g}, reference {reference:g}",
                guidance_audio=float(audio),
                guidance_reference=float(reference),
            )
            for audio, reference in paper_tables.GUIDANCE_SETTINGS
        )
    most = 1 if table == "tableI" else min(3, max_references)
    return tuple(Setting(name=f"M{m}", label=f"here, M = {m}", num_references=m) for m in range(1, most + 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationRun:
    """A run of one of the tables."""

    table: TableName
    selection: Selection
    benchmark: Benchmark = "hdtf"
    """Whose rows of the paper stand beside."""
    num_steps: int | None = None
    """None takes the preset's."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse heads in a table of portraits, portraits in one of heads, and no steps."""
        if self.num_steps is not None and self.num_steps < 1:
            raise ConfigError(f"got {self.num_steps} steps, expected at least 1")
        if self.selection.head != (self.table == "tableI"):
            raise ConfigError(f"got head={self.selection.head} for {self.table}; expected the head crop in tableI and only there")


def run_generation_table(
    run: GenerationRun,
    model: Model,
    judges: Judges,
    find: FindLandmarks | None,
    output: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> Table:
    """Generate what is missing under `output`, score it, and put the paper's rows beside.

    Raises:
        ConfigError: `output` holds the results of another model or other options.
        DataError: no clips, or damaged ones.
        OutputError: `output` cannot be written.
    """
    config = {"run": to_plain(run), "preset": model.preset.name, "weights": fingerprint(model)}
    segments = choose_segments(run.selection)
    claim(output, config)
    settings = settings_of(run.table, model.preset.generator.max_references)
    store = Kept(folder=output / "scores", of={**judges.weights, "landmarks": "none" if find is None else "MediaPipe"})
    real: list[ClipScores] = []
    ours: dict[str, list[ClipScores]] = {setting.name: [] for setting in settings}
    for i, segment in enumerate(segments):
        truth = cache(partial(_truth, run.selection, segment, model.preset.output_size))  # read once, if at all
        real.append(store.once(f"real/{segment.key}", ClipScores, partial(_score_real, truth, judges)))
        for setting in settings:
            video = output / "videos" / setting.name / f"{segment.key}.mp4"
            if not video.is_file():
                _generate(run, setting, model, truth(), video)
            score = partial(_score, video, find, truth, judges)
            ours[setting.name].append(store.once(f"{setting.name}/{segment.key}", ClipScores, score, source=state_of(video)))
            progress(f"clip {i + 1} of {len(segments)}, {setting.name}")
    rows = [_row(setting, ours[setting.name], real, _speeds(output, setting, segments)) for setting in settings]
    rows.append(Row(label="real videos", scores=summarise_scores(one.scores for one in real), num_clips=len(real)))
    clips = [
        Row(label=f"{setting.name} {segment.key}", scores=one.scores, num_clips=1)
        for setting in settings
        for segment, one in zip(segments, ours[setting.name], strict=True)
    ]
    everyone = [*real, *(one for some in ours.values() for one in some)]
    return Table(
        title=f"{TITLES[run.table]}, {amount(segments)}",
        rows=(*rows, *_paper_rows(run)),
        clips=tuple(clips),
        extra=_FPS,
        notes=(*_caveats(run), *notes(judges, find, everyone)),
        config=config,
    )


def _truth(selection: Selection, segment: Segment, size_px: int) -> TalkingClip:
    return resized(read_segment(selection, segment), size_px)


def _score_real(truth: Callable[[], TalkingClip], judges: Judges) -> ClipScores:
    return score_alone(truth(), judges)


def _score(video: Path, find: FindLandmarks | None, truth: Callable[[], TalkingClip], judges: Judges) -> ClipScores:
    return score_against(read_clip(video, find), truth(), judges)


def _generate(run: GenerationRun, setting: Setting, model: Model, clip: TalkingClip, video: Path) -> None:
    """One video, and beside it how fast it was made."""
    with writing(video):
        video.parent.mkdir(parents=True, exist_ok=True)
    summary = render(
        model.avatar(references_of(clip, setting.num_references), crop="none"),
        clip.samples,
        video,
        seed=run.seed,
        num_steps=run.num_steps,
        guidance_audio=setting.guidance_audio,
        guidance_reference=setting.guidance_reference,
    )
    note = video.with_suffix(".json")
    with whole_file(note, (".json",)) as temporary, writing(note):
        temporary.write_text(json.dumps(to_plain(summary)) + "\n", encoding="utf-8")


def _speeds(output: Path, setting: Setting, segments: list[Segment]) -> list[float]:
    found = []
    for segment in segments:
        note = output / "videos" / setting.name / f"{segment.key}.json"
        if note.is_file():
            found.append(float(json.loads(note.read_text(encoding="utf-8"))["fps"]))
    return found


def _row(setting: Setting, ours: list[ClipScores], real: list[ClipScores], speeds: list[float]) -> Row:
    scores = summarise_scores(one.scores for one in ours)
    scores |= video_distance([one.features for one in ours], [one.features for one in real])
    if speeds:
        scores["fps"] = fmean(speeds)
    return Row(label=setting.label, scores=scores, num_clips=len(ours))


def _paper_rows(run: GenerationRun) -> tuple[Row, ...]:
    rows = {"table1": paper_tables.table_1_rows, "tableI": paper_tables.table_i_rows, "tableII": paper_tables.table_ii_rows}
    return rows[run.table](run.benchmark)


def _caveats(run: GenerationRun) -> tuple[str, ...]:
    card = "one RTX 4090" if run.table == "tableI" else "one H100"
    lines = [
        f"FPS here: pictures over the time for sound, generator, decoder and H.264 on this machine; the paper's: for sound, "
        f"generator and decoder with the longest cache, on {card}.",
        "vivavoz CAPP is not the CAPP of the paper, whose weights are not public: the two do not compare.",
        "References are pictures of the clip itself, as in the paper: the first; with the last; with the middle.",
    ]
    if run.table == "tableI":
        lines.append("Heads are recropped around the median face; the paper gives no margins, and finetunes on such crops.")
    return tuple(lines)
