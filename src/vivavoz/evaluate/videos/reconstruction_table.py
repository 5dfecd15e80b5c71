"""Table 2 of the paper over a corpus: the VAE encodes real clips and decodes them with 0 to 3 references.

Legend: T pictures, M references, H W size; tensors `B C T H W` in [-1, 1], B = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vivavoz.config_json import to_plain
from vivavoz.engine.model import Model
from vivavoz.engine.runtime import decode_pictures
from vivavoz.errors import DataError
from vivavoz.evaluate.fidelity import to_video
from vivavoz.evaluate.kept import Kept, fingerprint
from vivavoz.evaluate.videos.clips import TalkingClip
from vivavoz.evaluate.videos.judges import Judges
from vivavoz.evaluate.videos.paper_tables import Benchmark, table_2_rows
from vivavoz.evaluate.videos.protocol import (
    Selection,
    amount,
    choose_segments,
    claim,
    read_segment,
    references_of,
    resize,
    resized,
)
from vivavoz.evaluate.videos.scoring import ClipScores, fidelity, summarise_scores
from vivavoz.evaluate.videos.table import Column, Row, Table
from vivavoz.vae.vae import References

_CHUNK_FRAMES = 16
_GAIN = {"psnr_gain_db": Column(label="ΔPSNR ↑", digits=2)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconstructionRun:
    """A run of table 2."""

    selection: Selection
    benchmark: Benchmark = "hdtf"
    """Whose rows of the paper stand beside."""
    reference_counts: tuple[int, ...] = (0, 1, 2, 3)


def run_reconstruction_table(
    run: ReconstructionRun,
    models: Mapping[str, Model],
    judges: Judges,
    output: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> Table:
    """Reconstruct the clips with every model and number of references.

    Args:
        run: what is measured.
        models: by the name of their rows: one's variants, with and without CR-VA, with and without references.
        judges: what is at hand.
        output: folder where scores are kept; those that are there are not computed again.
        progress: told how far it is.

    Raises:
        ConfigError: `output` holds the results of other models or options.
        DataError: no clips, or damaged ones.
        OutputError: `output` cannot be written.
    """
    config = {"run": to_plain(run), "models": {name: fingerprint(model) for name, model in models.items()}}
    segments = choose_segments(run.selection)
    claim(output, config)
    store = Kept(folder=output / "scores", of=judges.weights)
    found: dict[tuple[str, int], list[ClipScores]] = {}
    for i, segment in enumerate(segments):
        read = cache(partial(read_segment, run.selection, segment))  # once, if at all
        for name, model in models.items():
            for count in _counts(run, model):
                score = partial(_score, model, read, count, judges)
                kept = store.once(f"{_safe(name)}-M{count}/{segment.key}", ClipScores, score)
                found.setdefault((name, count), []).append(kept)
                progress(f"clip {i + 1} of {len(segments)}, {name}, M = {count}")
    rows = []
    for (name, count), clips in found.items():
        scores = summarise_scores(one.scores for one in clips)
        if count and (name, 0) in found:
            scores["psnr_gain_db"] = scores["psnr_db"] - summarise_scores(one.scores for one in found[name, 0])["psnr_db"]
        rows.append(Row(label=f"{name}, M = {count}", scores=scores, num_clips=len(clips)))
    rows.sort(key=lambda row: list(models).index(row.label.rsplit(",", 1)[0]))
    return Table(
        title=f"Table 2: reconstruction by the VAE, {amount(segments)}",
        rows=(*rows, *table_2_rows(run.benchmark)),
        clips=tuple(
            Row(label=f"{name} M{count} {segment.key}", scores=one.scores, num_clips=1)
            for (name, count), clips in found.items()
            for segment, one in zip(segments, clips, strict=True)
        ),
        extra=_GAIN,
        notes=(
            "References are pictures of the clip itself, as in the paper: the first; with the last; with the middle.",
            "ΔPSNR is over the same model with M = 0. The paper's M = 0 was trained without references.",
            *(f"Left out. {line}." for line in judges.skipped if "LPIPS" in line),
            *(f"Weights of {name}: {weights}." for name, weights in judges.weights.items() if name == "perceptual"),
        ),
        config=config,
    )


@torch.inference_mode()
def reconstruct(model: Model, clip: TalkingClip, num_references: int) -> NDArray[np.uint8]:
    """The clip's pictures (T, S, S, 3), T = 1 + 4n, through the VAE, as a stream; the latent is the posterior's mean."""
    vae, work = model.vae, model.preset.working_size
    references = _references(model, clip, num_references)
    encoder = vae.init_encoder_state(1, work, work)
    side = work // vae.config.spatial_factor
    decoder = vae.init_decoder_state(1, side, side, num_references)
    pictures: list[NDArray[np.uint8]] = []
    start = 0
    while start < clip.num_frames:
        stop = min(start + _CHUNK_FRAMES + (start == 0), clip.num_frames)
        frames = np.stack([resize(image, work) for image in clip.frames[start:stop]])
        z = vae.encode(to_video(frames).to(model.device, model.dtype), encoder).mean
        pictures.append(np.asarray(decode_pictures(vae, z, references, decoder)[0].cpu().numpy(), np.uint8))
        start = stop
    size = clip.frames.shape[1]
    return np.stack([resize(image, size) for part in pictures for image in part])


def _score(model: Model, read: Callable[[], TalkingClip], num_references: int, judges: Judges) -> ClipScores:
    real = resized(_whole_latents(read()), model.preset.output_size)
    return ClipScores(scores=fidelity(reconstruct(model, real, num_references), real.frames, judges), features=None)


def _references(model: Model, clip: TalkingClip, count: int) -> References:
    size = model.preset.working_size
    if not count:
        return model.vae.encode_references(torch.zeros(1, 0, 3, size, size, device=model.device, dtype=model.dtype))
    photos = references_of(clip, count)
    seen = to_video(np.stack([resize(photo, size) for photo in photos])).transpose(1, 2).to(model.device, model.dtype)
    return model.vae.encode_references(seen, to_video(np.stack(photos)).transpose(1, 2).to(model.device))


def _counts(run: ReconstructionRun, model: Model) -> tuple[int, ...]:
    most = model.preset.generator.max_references if model.preset.vae.references else 0
    return tuple(count for count in run.reference_counts if count <= most)


def _whole_latents(clip: TalkingClip) -> TalkingClip:
    """As many pictures as whole latents stand for: 1 + 4n."""
    if not clip.num_frames:
        raise DataError(f"{clip.name} has no pictures; leave it out")
    return clip.cut(1 + (clip.num_frames - 1) // 4 * 4)


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)
