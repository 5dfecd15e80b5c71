"""The figures of an evaluation as Markdown: what was aimed at first, then a section for every part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vivavoz.evaluate.evaluation import Exam, Findings
from vivavoz.evaluate.fidelity import Comparison
from vivavoz.evaluate.lips import MOUTHS
from vivavoz.evaluate.states import VISIBLE
from vivavoz.evaluate.stillness import NOISE_DBFS
from vivavoz.evaluate.summary import NOTHING, aims, compared, table

_KINDS = {"encoder": "encoder", "labels": "labels", "copy": "(a copy of the first reference)"}


def to_markdown(findings: Sequence[Findings], exam: Exam) -> str:
    """All tables; parts that nobody was measured in are left out."""
    lines = [
        f"# Evaluation of {', '.join(f'`{one.name}`' for one in findings)}",
        "",
        f"{len(exam.material.portraits)} portraits and {len(exam.material.speeches)} recordings at hand. Perceptual: "
        f"{exam.perceptual.description}.",
        "",
    ]
    lines += [*aims(findings), *compared(findings)]
    for section in (_reconstruction, _clips, _lips, _stillness, _likeness, _background, _steering, _states):
        lines += [*section(findings, exam)]
    return "\n".join(lines)


def _reconstruction(findings: Sequence[Findings], exam: Exam) -> Iterator[str]:
    if not any(one.reconstruction for one in findings):
        return
    size = exam.config.reconstruction.size
    num_frames = max(one.reconstruction.num_frames for one in findings if one.reconstruction)
    yield from (f"## Reconstruction, {num_frames} frames of {size} x {size}", "")
    yield from table(
        ["weights", "latents from", "references", "PSNR", "SSIM", "perceptual", "PSNR of the mouth"],
        [
            [f"`{one.name}`" if row.kind != "copy" else "", _KINDS[row.kind], str(row.num_references), *_fidelity(row.score)]
            for i, one in enumerate(findings)
            if one.reconstruction
            for row in one.reconstruction.fidelities
            if i == 0 or row.kind != "copy"
        ],
    )


def _clips(findings: Sequence[Findings], exam: Exam) -> Iterator[str]:
    found = [one.clips for one in findings if one.clips]
    if not found:
        return
    size, people = exam.config.clips.size, found[0].num_people
    yield from (f"## Real clips, {len(found[0].keys)} of {people} {'person' if people == 1 else 'people'}, {size} x {size}", "")
    yield from table(
        ["weights", "references from", "references", "PSNR", "SSIM", "perceptual", "PSNR of the mouth"],
        [
            [
                "(a copy of the first)" if row.is_copy else f"`{one.name}`",
                "the same clip" if row.source == "same clip" else "other clips",
                str(row.num_references),
                *_fidelity(row.score),
            ]
            for i, one in enumerate(findings)
            if one.clips
            for row in one.clips.fidelities
            if i == 0 or not row.is_copy
        ],
    )


def _lips(findings: Sequence[Findings], _: Exam) -> Iterator[str]:
    measured = [one for one in findings if one.lips]
    if not measured or not measured[0].lips:
        return
    yield from (f"## Lips against the animator's, {len(measured[0].lips.pairs)} pairs of portrait and recording", "")
    yield from table(
        ["weights", "mouth", "pairs", "r", "r at the best lag", "lag", "closed on p, b, m", "deviation in speech", "in pauses"],
        [
            [
                f"`{one.name}`" if name in ("video", "latents") else "",
                MOUTHS[name],
                str(row.num_pairs),
                f"{row.r:.3f}",
                f"{row.best_r:.3f}",
                f"{row.best_lag_frames:+.1f} frames",
                f"{row.closure:.0%}",
                f"{row.deviation_speech:.4f}",
                f"{row.deviation_silence:.4f}",
            ]
            for one in measured
            if one.lips
            for name, row in one.lips.summaries().items()
            if one is measured[0] or name in ("video", "latents")
        ],
    )
    yield from ("Deviations are in face heights, but for loudness. A positive lag: the mouth is late.", "")


def _stillness(findings: Sequence[Findings], exam: Exam) -> Iterator[str]:
    rows = [
        [
            f"`{one.name}`",
            where,
            str(row.num_portraits),
            f"{row.speech:.4f}",
            f"{row.silence:.4f}",
            f"{row.silence_share:.1%}",
            f"{row.worst_silence_share:.1%}",
            f"{row.noise_share:.1%}",
        ]
        for one in findings
        if one.stillness
        for where, row in (("pictures", one.stillness.pictures), ("latents", one.stillness.latents))
        if row
    ]
    if not rows:
        return
    yield from (f"## Lips while nothing is said, {exam.config.stillness.silence_s} s each of silence and of noise", "")
    yield from table(
        [
            "weights",
            "measured in",
            "portraits",
            "deviation in speech",
            "in silence",
            "over speech",
            "worst portrait",
            f"in noise of {NOISE_DBFS:.0f} dBFS, over speech",
        ],
        rows,
    )


def _likeness(findings: Sequence[Findings], _: Exam) -> Iterator[str]:
    found = [(one.name, one.likeness) for one in findings if one.likeness]
    if not found:
        return
    yield from ("## Likeness and quality of pictures, in the animator's poses", "")
    yield from table(
        [
            "weights",
            "pictures",
            "no face in",
            "like the portrait",
            "others (floor)",
            "animator (ceiling)",
            "nearest to its own",
            "animator's",
            "PSNR",
            "of aligned faces",
            "perceptual",
        ],
        [
            [
                f"`{name}`",
                str(row.num_pictures),
                str(row.num_lost),
                f"{row.same:.3f}",
                f"{row.others:.3f}",
                f"{row.animator:.3f}",
                f"{row.nearest:.0%}",
                f"{row.animator_nearest:.0%}",
                f"{row.psnr_db:.2f} dB",
                f"{row.face_psnr_db:.2f} dB",
                f"{row.face_perceptual:.4f}",
            ]
            for name, row in found
        ],
    )
    yield from (
        f"Cosines of aligned faces, less the mean of all portraits', by {found[0][1].descriptor}. PSNR is against the animator's "
        "pictures of the same moments.",
        "",
    )


def _background(findings: Sequence[Findings], _: Exam) -> Iterator[str]:
    found = [(one.name, one.background) for one in findings if one.background and one.background.drifts]
    if not found:
        return
    moments = found[0][1].moments_s
    yield from ("## Background, and the head's pose, over a long stream", "")
    yield from table(
        [
            "weights",
            "portraits",
            *(f"PSNR at {moment} s" for moment in moments),
            "lost, worst portrait",
            f"head turned at {', '.join(map(str, moments))} s",
        ],
        [
            [
                f"`{name}`",
                str(len(row.drifts)),
                *(f"{value:.2f} dB" for value in row.psnr_db),
                f"{row.worst_loss_db:+.2f} dB",
                ", ".join(f"{value:.1f}" for value in row.turned_deg) + " degrees" if row.turned_deg else NOTHING,
            ]
            for name, row in found
        ],
    )


def _steering(findings: Sequence[Findings], _: Exam) -> Iterator[str]:
    found = [(f"`{one.name}`", str(one.steering.num_portraits), one.steering.model) for one in findings if one.steering]
    if not found:
        return
    rulers = [one.steering.ruler for one in findings if one.steering and one.steering.ruler]
    found += [("the animator (the ruler's limit)", "1", ruler) for ruler in rulers[:1]]
    yield from ("## Controls, commanded against found in pictures", "")
    yield from table(
        ["weights", "portraits", "control", "r", "lowest r", "gain", "lag"],
        [
            [name, count, row.control, f"{row.r:.3f}", f"{row.lowest_r:.3f}", f"{row.gain:.2f}", f"{row.lag_frames:+.1f} frames"]
            for name, count, rows in found
            for row in rows
        ],
    )


def _states(findings: Sequence[Findings], _: Exam) -> Iterator[str]:
    found = [(one.name, one.states) for one in findings if one.states]
    if not found:
        return
    yield from ("## Changes of state, by block from the change on", "")
    yield from table(
        ["weights", "change", "landmarks moved, % of the face's height", "face differs, grey levels", "seen after"],
        [
            [
                f"`{name}`",
                f"{change.before} to {change.after}",
                ", ".join(f"{100 * value:.2f}" for value in change.moved),
                ", ".join(f"{value:.1f}" for value in change.grey_levels),
                "not seen" if change.first_seen is None else f"{change.first_seen} blocks",
            ]
            for name, states in found
            for change in states.changes
        ],
    )
    yield from (
        f"Against the same stream without the change; a block is {found[0][1].block_frames} pictures. Seen: landmarks moved by "
        f"{VISIBLE:.0%} of the face's height on average.",
        "",
    )


def _fidelity(score: Comparison) -> list[str]:
    return [f"{score.psnr_db:.2f} dB", f"{score.ssim:.4f}", f"{score.perceptual:.4f}", f"{score.mouth_psnr_db:.2f} dB"]
