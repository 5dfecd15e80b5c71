"""The table and the plot of an ablation: rows as in the paper's table 2, means over seeds."""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import vivavoz
from vivavoz.config_json import to_plain
from vivavoz.errors import ConfigError, OutputError
from vivavoz.evaluate.clips import MAX_REFERENCES, SOURCES, Source
from vivavoz.evaluate.fidelity import Comparison, pooled
from vivavoz.train.ablation import AblationRecipe, Measured

_ARMS = {False: "without CR-VA", True: "with CR-VA", None: "(a copy of the first reference)"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of the table: the mean over seeds."""

    corpus: str
    source: Source
    residual: bool | None
    """None for what showing the first reference all the time would score."""
    num_references: int
    score: Comparison
    psnr_spread_db: float
    """Largest less smallest over the seeds."""
    gain_db: float | None
    """PSNR over that of the VAE without references, with or without CR-VA as here; None for a copy."""
    num_seeds: int


def rows_of(results: Sequence[Measured]) -> list[Row]:
    """The table's lines, corpus by corpus; the last of every corpus and source is a copy of the first reference."""
    found: dict[tuple[str, Source, bool | None, int], list[Comparison]] = defaultdict(list)
    for i, result in enumerate(results):
        for clips in result.clips:
            for one in clips.fidelities:
                if not one.is_copy:
                    found[clips.corpus, one.source, result.arm.residual, one.num_references].append(one.score)
                elif i == 0:  # the same for all
                    found[clips.corpus, one.source, None, one.num_references].append(one.score)
    rows = []
    for (corpus, source, residual, count), scores in found.items():
        levels = [one.psnr_db for one in scores]
        score, alone = pooled(scores), found.get((corpus, source, residual, 0))
        rows.append(
            Row(
                corpus=corpus,
                source=source,
                residual=residual,
                num_references=count,
                score=score,
                psnr_spread_db=max(levels) - min(levels),
                gain_db=score.psnr_db - pooled(alone).psnr_db if alone else None,
                num_seeds=len(scores),
            )
        )
    arms = list(_ARMS)
    return sorted(rows, key=lambda row: (row.corpus, SOURCES.index(row.source), arms.index(row.residual), row.num_references))


def to_markdown(rows: Sequence[Row], perceptual: str) -> str:
    """Table 2."""
    lines = [
        f"| clips | references from | | references | L1 | PSNR | gain | SSIM | {perceptual} |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        score = row.score
        spread = f" (spread {row.psnr_spread_db:.2f})" if row.num_seeds > 1 else ""
        gain = f"{row.gain_db:+.2f} dB" if row.num_references and row.gain_db is not None else ""
        lines.append(
            f"| {row.corpus} | the {row.source} | {_ARMS[row.residual]} | {row.num_references} | {score.l1:.4f} "
            f"| {score.psnr_db:.2f} dB{spread} | {gain} | {score.ssim:.3f} | {score.perceptual:.4f} |"
        )
    return "\n".join(lines) + "\n"


def write_ablation(results: Sequence[Measured], recipe: AblationRecipe, perceptual: str, folder: Path) -> list[Row]:
    """Write `ablation.json`, `ablation.md` and `ablation.png`; gives the table's lines.

    Raises:
        ConfigError: matplotlib is missing.
        OutputError: the folder cannot be written.
    """
    rows = rows_of(results)
    report = {
        "vivavoz": vivavoz.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "perceptual": perceptual,
        "recipe": to_plain(recipe),
        "rows": [to_plain(row) for row in rows],
        "arms": [to_plain(result) for result in results],
    }
    try:
        (folder / "ablation.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        (folder / "ablation.md").write_text(to_markdown(rows, perceptual), encoding="utf-8")
        _plot(rows, folder / "ablation.png")
    except OSError as error:
        raise OutputError(f"cannot write the ablation's table to {folder}: {error}; give a folder that can be written") from error
    return rows


def _plot(rows: Sequence[Row], path: Path) -> None:
    """PSNR over the number of references, a panel for each corpus and source."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("got no matplotlib, expected it for the plot: pip install 'vivavoz[train]'") from error
    panels = dict.fromkeys((row.corpus, row.source) for row in rows)
    figure = Figure(figsize=(4.2 * len(panels), 3.4), dpi=100, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for residual, label in _ARMS.items():
            line = [row for row in rows if (row.corpus, row.source) == panel and row.residual is residual]
            if residual is None:
                axes.axhline(line[0].score.psnr_db, color="0.6", linestyle=":", label="copy of a reference")
                continue
            counts, levels = [row.num_references for row in line], [row.score.psnr_db for row in line]
            axes.errorbar(counts, levels, [row.psnr_spread_db / 2 for row in line], marker="o", label=label)
        ticks = range(MAX_REFERENCES + 1)
        axes.set(title=f"{panel[0]}, references of the {panel[1]}", xlabel="references", ylabel="PSNR (dB)", xticks=ticks)
    axes.legend(frameon=False)
    figure.savefig(path)
