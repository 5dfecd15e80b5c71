"""The head of a report: what was aimed at against what was found, and the first weights against the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from vivavoz.evaluate.clips import ClipFidelity
from vivavoz.evaluate.evaluation import Findings
from vivavoz.evaluate.fidelity import Comparison
from vivavoz.evaluate.lips import LipSummary
from vivavoz.evaluate.reconstruction import Kind
from vivavoz.evaluate.steering import CONTROLS

NOTHING = "-"
"""In a cell, where nothing was measured."""

Cell = Callable[[Findings], str]


def aims(findings: Sequence[Findings]) -> Iterator[str]:
    """What was aimed at, a baseline, and what each set of weights reaches."""
    rows: list[tuple[str, str, str, Cell]] = [
        ("animated clips, M = 1", ">= 30 dB", _copy_psnr(findings), lambda one: _db(_encoder(one, 1), "psnr_db")),
        ("their mouths", "", _copy_mouth(findings), lambda one: _db(_encoder(one, 1), "mouth_psnr_db")),
        ("real clips, M = 1", ">= 28 dB", _clip_cell(findings[0], is_copy=True), lambda one: _clip_cell(one, is_copy=False)),
        (
            "lips r, pictures",
            ">= 0.8",
            _lip_cell(findings[0], "loudness", "r", ".3f"),
            lambda one: _lip_cell(one, "video", "r", ".3f"),
        ),
        (
            "lips closed on p, b, m",
            ">= 85%",
            _lip_cell(findings[0], "loudness", "closure", ".0%"),
            lambda one: _lip_cell(one, "video", "closure", ".0%"),
        ),
        (
            "lips in silence over speech",
            "< 10%",
            "",
            lambda one: f"{one.stillness.pictures.silence_share:.0%}" if one.stillness and one.stillness.pictures else NOTHING,
        ),
        ("likeness, 0 others to 1 animator", "", "0", _likeness_cell),
        (
            "background lost over the stream",
            "<= 1 dB",
            "",
            lambda one: f"{one.background.worst_loss_db:+.2f} dB" if one.background else NOTHING,
        ),
        *(
            (f"{control}, r", ">= 0.8" if "gaze" in control else ">= 0.9", _ruler(findings, i), _steer_cell(i))
            for i, control in enumerate(CONTROLS)
        ),
        ("blocks until a state shows", "0", "", _slowest_state),
        ("generator, GFLOP per picture", "", "", lambda one: f"{one.generator_gflop_per_frame:.3f}"),
    ]
    yield from table(
        ["", "aim", "baseline", *(f"`{one.name}`" for one in findings)],
        [[name, aim, baseline, *(cell(one) for one in findings)] for name, aim, baseline, cell in rows],
    )
    yield from (
        "Baselines: a copy of the reference; for lips a mouth that follows loudness; for controls the animator, told the same "
        "(the ruler's limit).",
        "",
    )


def compared(findings: Sequence[Findings]) -> Iterator[str]:
    """The first weights against each of the others."""
    if len(findings) < 2:
        return
    first = findings[0]
    yield from (f"## `{first.name}` against the others", "")
    yield from table(
        [
            "against",
            "steps",
            "guidance",
            "lips r",
            "r over theirs",
            "faces",
            "better by",
            "generator FLOPs, theirs over its",
        ],
        [
            [
                f"`{one.name}`" if one is not first else f"(`{one.name}` itself)",
                str(one.sampling.num_steps),
                f"{one.sampling.guidance_audio:g}, {one.sampling.guidance_reference:g}",
                _lip_cell(one, "video", "r", ".3f"),
                _over(_lip(first, "video"), _lip(one, "video")),
                f"{one.likeness.face_psnr_db:.2f} dB" if one.likeness else NOTHING,
                f"{first.likeness.face_psnr_db - one.likeness.face_psnr_db:+.2f} dB"
                if one.likeness and first.likeness
                else NOTHING,
                f"{one.generator_gflop_per_frame / first.generator_gflop_per_frame:.1f} x",
            ]
            for one in findings
        ],
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table, and an empty one; columns but the first are flush right."""
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' if i == 0 else '---:' for i in range(len(heads)))} |"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _rebuilt(one: Findings, kind: Kind, count: int) -> Comparison | None:
    rows = one.reconstruction.fidelities if one.reconstruction else ()
    return next((row.score for row in rows if row.kind == kind and row.num_references == count), None)


def _encoder(one: Findings, count: int) -> Comparison | None:
    return _rebuilt(one, "encoder", count)


def _copy_psnr(findings: Sequence[Findings]) -> str:
    return _db(_rebuilt(findings[0], "copy", 1), "psnr_db")


def _copy_mouth(findings: Sequence[Findings]) -> str:
    return _db(_rebuilt(findings[0], "copy", 1), "mouth_psnr_db")


def _db(score: Comparison | None, name: str) -> str:
    return NOTHING if score is None else f"{getattr(score, name):.2f} dB"


def _clip_cell(one: Findings, *, is_copy: bool) -> str:
    def wanted(row: ClipFidelity) -> bool:
        return row.source == "same clip" and row.is_copy == is_copy and row.num_references == 1

    rows = one.clips.fidelities if one.clips else ()
    return _db(next((row.score for row in rows if wanted(row)), None), "psnr_db")


def _lip(one: Findings, mouth: str) -> LipSummary | None:
    return one.lips.summaries().get(mouth) if one.lips else None


def _lip_cell(one: Findings, mouth: str, name: str, form: str) -> str:
    row = _lip(one, mouth)
    return NOTHING if row is None else format(getattr(row, name), form)


def _over(mine: LipSummary | None, theirs: LipSummary | None) -> str:
    if mine is None or theirs is None or not theirs.r or math.isnan(theirs.r):
        return NOTHING
    return f"{mine.r / theirs.r:.1%}"


def _likeness_cell(one: Findings) -> str:
    """Where the likeness lies between floor and ceiling."""
    if one.likeness is None:
        return NOTHING
    found = one.likeness
    room = found.animator - found.others
    return f"{(found.same - found.others) / room:.2f}" if room > 0 else NOTHING


def _ruler(findings: Sequence[Findings], index: int) -> str:
    ruler = next((one.steering.ruler for one in findings if one.steering and one.steering.ruler), ())
    return f"{ruler[index].r:.3f}" if ruler else NOTHING


def _steer_cell(index: int) -> Cell:
    return lambda one: f"{one.steering.model[index].r:.3f}" if one.steering else NOTHING


def _slowest_state(one: Findings) -> str:
    if one.states is None:
        return NOTHING
    seen = [change.first_seen for change in one.states.changes]
    return "not seen" if None in seen else str(max(k for k in seen if k is not None))
