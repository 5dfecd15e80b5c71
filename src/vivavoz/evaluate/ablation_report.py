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
from vivavoz.evaluate.clip_reconstruction import ClipFidelity
from vivavoz.train.ablation import AblationRecipe, Measured

_ARMS = {False: "without CR-VA", True: "with CR-VA"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of the table: the mean over seeds."""

    corpus: str
    residual: bool
    num_references: int
    l1: float
    psnr_db: float
    psnr_spread_db: float
    """Largest less smallest over the seeds."""
    gain_db: float
    """PSNR over that of the VAE without references, with or without CR-VA as here."""
    ssim: float
    perceptual: float
    num_seeds: int


def rows_of(results: Sequence[Measured]) -> list[Row]:
    """The table's lines, corpus by corpus."""
    found: dict[tuple[str, bool, int], list[ClipFidelity]] = defaultdict(list)
    for result in results:
        for one in result.fidelities:
            found[one.corpus, result.arm.residual, one.num_references].append(one)

    def mean(values: list[ClipFidelity], name: str) -> float:
        return float(sum(getattr(one, name) for one in values)) / len(values)

    rows = []
    for (corpus, residual, count), values in sorted(found.items()):
        levels = [one.psnr_db for one in values]
        alone = found.get((corpus, residual, 0))
        rows.append(
            Row(
                corpus=corpus,
                residual=residual,
                num_references=count,
                l1=mean(values, "l1"),
                psnr_db=mean(values, "psnr_db"),
                psnr_spread_db=max(levels) - min(levels),
                gain_db=mean(values, "psnr_db") - mean(alone, "psnr_db") if alone else float("nan"),
                ssim=mean(values, "ssim"),
                perceptual=mean(values, "perceptual"),
                num_seeds=len(values),
            )
        )
    return rows


def to_markdown(rows: Sequence[Row], copies: Sequence[ClipFidelity], perceptual: str) -> str:
    """Table 2; the last line of each corpus shows the first reference all the time."""
    lines = [
        f"| clips | | references | L1 | PSNR | gain | SSIM | {perceptual} |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for copy in copies:
        for row in (row for row in rows if row.corpus == copy.corpus):
            spread = f" (spread {row.psnr_spread_db:.2f})" if row.num_seeds > 1 else ""
            gain = f"{row.gain_db:+.2f} dB" if row.num_references else ""
            lines.append(
                f"| {row.corpus} | {_ARMS[row.residual]} | {row.num_references} | {row.l1:.4f} | {row.psnr_db:.2f} dB{spread} "
                f"| {gain} | {row.ssim:.3f} | {row.perceptual:.4f} |"
            )
        lines.append(
            f"| {copy.corpus} | (a copy of the first reference) | 1 | {copy.l1:.4f} | {copy.psnr_db:.2f} dB | | {copy.ssim:.3f} "
            f"| {copy.perceptual:.4f} |"
        )
    return "\n".join(lines) + "\n"


def write_ablation(
    results: Sequence[Measured], copies: Sequence[ClipFidelity], recipe: AblationRecipe, perceptual: str, folder: Path
) -> list[Row]:
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
        "copies": [to_plain(copy) for copy in copies],
        "arms": [to_plain(result) for result in results],
    }
    try:
        (folder / "ablation.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        (folder / "ablation.md").write_text(to_markdown(rows, copies, perceptual), encoding="utf-8")
        _plot(rows, copies, folder / "ablation.png")
    except OSError as error:
        raise OutputError(f"cannot write the ablation's table to {folder}: {error}; give a folder that can be written") from error
    return rows


def _plot(rows: Sequence[Row], copies: Sequence[ClipFidelity], path: Path) -> None:
    """PSNR over the number of references, a panel for each corpus."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("got no matplotlib, expected it for the plot: pip install 'vivavoz[train]'") from error
    figure = Figure(figsize=(4.2 * len(copies), 3.4), dpi=100, layout="constrained")
    for axes, copy in zip(figure.subplots(1, len(copies), squeeze=False)[0], copies, strict=True):
        for residual, label in _ARMS.items():
            line = [row for row in rows if row.corpus == copy.corpus and row.residual == residual]
            spread = [row.psnr_spread_db / 2 for row in line]
            axes.errorbar([row.num_references for row in line], [row.psnr_db for row in line], spread, marker="o", label=label)
        axes.axhline(copy.psnr_db, color="0.6", linestyle=":", label="copy of a reference")
        axes.set(title=copy.corpus, xlabel="references", ylabel="PSNR (dB)", xticks=range(4))
    axes.legend(frameon=False)
    figure.savefig(path)
