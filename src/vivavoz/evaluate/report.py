"""One evaluation from beginning to end, and its report: `report.json`, `report.md`, and pictures."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import vivavoz
from vivavoz.data.landmarks import face_mesh
from vivavoz.engine.model import Model
from vivavoz.errors import OutputError
from vivavoz.evaluate.lips import Lips, LipsConfig, LipSummary, evaluate_lips, summarise
from vivavoz.evaluate.material import Material
from vivavoz.evaluate.reconstruction import Reconstruction, ReconstructionConfig, evaluate_reconstruction
from vivavoz.evaluate.sheet import lips_sheet, reconstruction_sheet
from vivavoz.media.image import write_image

MOUTHS = {
    "video": "generated pictures",
    "latents": "generated latents",
    "loudness": "loudness alone",
    "ruler": "the animator's pictures (the ruler's limit)",
    "truth": "the animator",
}
"""The mouths that are scored, and what a report calls them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What is measured."""

    reconstruction: ReconstructionConfig
    lips: LipsConfig
    video_lips: bool = True
    """Measure lips in generated pictures too (needs MediaPipe)."""


def full_evaluation(*, size: int = 256, label_latents: bool = True, video_lips: bool = True) -> EvaluationConfig:
    """Everything: what `docs/experiments.md` quotes."""
    return EvaluationConfig(
        reconstruction=ReconstructionConfig(size=size, label_latents=label_latents),
        lips=LipsConfig(label_latents=label_latents),
        video_lips=video_lips,
    )


def quick_evaluation(*, size: int = 256, label_latents: bool = True, video_lips: bool = True) -> EvaluationConfig:
    """A small part of it, to see where a model stands."""
    return EvaluationConfig(
        reconstruction=ReconstructionConfig(num_portraits=4, clips_per_portrait=1, size=size, label_latents=label_latents),
        lips=LipsConfig(num_pairs=3, num_frames=125, num_ruler_pairs=1, num_samples=1, label_latents=label_latents),
        video_lips=video_lips,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """All figures of one model."""

    preset: str
    config: EvaluationConfig
    material: Material
    reconstruction: Reconstruction
    lips: Lips

    def lip_summaries(self) -> dict[str, LipSummary]:
        """Every mouth that was scored, by its key in `MOUTHS`."""
        found = {name: summarise([getattr(pair, name) for pair in self.lips.pairs]) for name in MOUTHS}
        return {name: summary for name, summary in found.items() if summary is not None}


def evaluate(
    model: Model, material: Material, config: EvaluationConfig, progress: Callable[[str], None] = lambda _: None
) -> Evaluation:
    """Measure a model.

    Raises:
        DataError: MediaPipe is missing and `config.video_lips` asks for it, or no face is found in a video.
    """
    with face_mesh() if config.video_lips else nullcontext() as find:
        reconstruction = evaluate_reconstruction(model.vae, material, config.reconstruction, progress)
        lips = evaluate_lips(model, material, config.lips, find, progress)
    return Evaluation(preset=model.preset.name, config=config, material=material, reconstruction=reconstruction, lips=lips)


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Write `report.json`, `report.md`, `reconstruction.png` and, where pictures were generated, `lips.png`.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(to_json(evaluation), indent=2) + "\n", encoding="utf-8")
        (folder / "report.md").write_text(to_markdown(evaluation), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write a report to {folder}: {error}; give a folder that can be written") from error
    if evaluation.reconstruction.samples:
        write_image(folder / "reconstruction.png", reconstruction_sheet(evaluation.reconstruction.samples))
    if evaluation.lips.samples:
        write_image(folder / "lips.png", lips_sheet(evaluation.lips.samples))


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """All figures; null for what is not a finite number."""
    return _finite(
        {
            "vivavoz": vivavoz.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "preset": evaluation.preset,
            "config": asdict(evaluation.config),
            "portraits": [portrait.name for portrait in evaluation.material.portraits],
            "speeches": [speech.name for speech in evaluation.material.speeches],
            "reconstruction": [asdict(fidelity) for fidelity in evaluation.reconstruction.fidelities],
            "lips": {name: asdict(summary) for name, summary in evaluation.lip_summaries().items()},
            "pairs": [asdict(pair) for pair in evaluation.lips.pairs],
        }
    )


def to_markdown(evaluation: Evaluation) -> str:
    """The figures as two tables."""
    reconstruction, size = evaluation.reconstruction, evaluation.config.reconstruction.size
    lines = [
        f"# Evaluation of `{evaluation.preset}`",
        "",
        f"{len(evaluation.material.portraits)} portraits and {len(evaluation.material.speeches)} recordings at hand.",
        "",
        f"## Reconstruction, {reconstruction.num_frames} frames of {size} x {size}",
        "",
        "| latents from | references | PSNR | SSIM | PSNR of the mouth |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    names = {"encoder": "encoder", "labels": "labels", "copy": "(a copy of the first reference)"}
    lines += [
        f"| {names[row.kind]} | {row.num_references} | {row.psnr_db:.2f} dB | {row.ssim:.4f} | {row.mouth_psnr_db:.2f} dB |"
        for row in reconstruction.fidelities
    ]
    lines += [
        "",
        f"## Lips against the animator's, {len(evaluation.lips.pairs)} pairs of portrait and recording",
        "",
        "| mouth | pairs | r | r at the best lag | lag | closed on p, b, m | deviation in speech | in silence |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {MOUTHS[name]} | {row.num_pairs} | {row.r:.3f} | {row.best_r:.3f} | {row.best_lag_frames:+.1f} frames "
        f"| {row.closure:.0%} | {row.deviation_speech:.4f} | {row.deviation_silence:.4f} |"
        for name, row in evaluation.lip_summaries().items()
    ]
    lines += ["", "Deviations are in face heights, but for loudness. A positive lag: the mouth is late.", ""]
    return "\n".join(lines)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
