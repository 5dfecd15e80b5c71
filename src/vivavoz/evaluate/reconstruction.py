"""How well the VAE gives back animated portraits it has never seen, with 0 to 3 references.

Two kinds of latents are decoded, of the frames and of the references alike: the encoder's own, and latents written from the
animator's labels, which show what the decoder can do where the encoder makes no error. Beside them stands a copy of the first
reference: what not moving at all would score.

Shapes: B = 1, M references, T frames, H W size. Pictures are uint8 (T, H, W, 3); tensors are in [-1, 1].
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivavoz.errors import DataError
from vivavoz.evaluate.fidelity import Comparison, compare, mouth_region, pooled, rebuild, to_video
from vivavoz.evaluate.kept import Keep, keep_nothing
from vivavoz.evaluate.material import HeldPortrait, HeldSpeech, Material, pick
from vivavoz.rig.labels import LABELS, in_units
from vivavoz.rig.rig import Rig
from vivavoz.train.label_latents import LabelLatents
from vivavoz.train.perceptual import Perceptual
from vivavoz.vae.vae import VAE

Kind = Literal["encoder", "labels", "copy"]
"""Where the latents come from; `copy` is the first reference itself."""

_APART_FRAMES = 12
_POSE = ("opening", "mouth_width", "pucker", "yaw", "pitch", "roll", "eye_open_left", "eye_open_right")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconstructionConfig:
    """What is reconstructed."""

    num_portraits: int = 20
    clips_per_portrait: int = 1
    num_frames: int = 17
    """Frames of a clip, 1 + 4n."""
    reference_counts: tuple[int, ...] = (0, 1, 2, 3)
    size: int = 256
    """Side of the pictures."""
    label_latents: bool = True
    """Also decode latents written from labels: for models trained on them."""
    num_samples: int = 4
    """Clips of which one frame is kept to look at."""

    def __post_init__(self) -> None:
        """Refuse clips that cannot be encoded."""
        if self.num_frames % 4 != 1:
            raise DataError(f"got clips of {self.num_frames} frames; expected 1 + 4n (1, 5, 9, ...): change num_frames")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """How well one kind of latents gives pictures back with so many references."""

    kind: Kind
    num_references: int
    score: Comparison


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One frame to look at: the first reference, the truth, and what the decoder made of it with M references."""

    name: str
    reference: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    counts: tuple[int, ...]
    """The numbers of references."""
    decoded: tuple[NDArray[np.uint8], ...]
    """A picture for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstruction:
    """What `evaluate_reconstruction` found."""

    fidelities: tuple[Fidelity, ...]
    num_frames: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Clip:
    """A clip of an animated portrait, with up to three references of the same person."""

    frames: NDArray[np.uint8]
    """(T, H, W, 3)."""
    references: NDArray[np.uint8]
    """(M, H, W, 3): the portrait itself, then frames of the same performance in other poses."""
    labels: NDArray[np.float32]
    """(T, len(LABELS))."""
    reference_labels: NDArray[np.float32]
    """(M, len(LABELS))."""
    mouth: NDArray[np.uint8]
    """(T, H, W): 1 on and around the mouth."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Rebuilt:
    """One portrait's clips."""

    fidelities: tuple[Fidelity, ...]
    num_frames: int
    sample: Sample


def evaluate_reconstruction(
    vae: VAE,
    material: Material,
    config: ReconstructionConfig,
    perceptual: Perceptual,
    progress: Callable[[str], None] = lambda _: None,
    keep: Keep = keep_nothing,
) -> tuple[Reconstruction, tuple[Sample, ...]]:
    """Render clips of the material, encode and decode them, and compare; and some pictures to look at."""
    rebuilt: list[_Rebuilt] = []
    for i, portrait in enumerate(material.portraits[: config.num_portraits]):
        speeches = [pick(material.speeches, config.clips_per_portrait * i + k) for k in range(config.clips_per_portrait)]
        rebuilt.append(keep(f"portrait-{i}", _Rebuilt, partial(_rebuild_portrait, vae, portrait, speeches, config, perceptual)))
        progress(f"reconstruction: {i + 1}/{min(config.num_portraits, len(material.portraits))} portraits")
    scores: dict[tuple[Kind, int], list[Comparison]] = defaultdict(list)
    for one in rebuilt:
        for row in one.fidelities:
            scores[row.kind, row.num_references].append(row.score)
    rows = tuple(
        Fidelity(kind=kind, num_references=count, score=pooled(parts)) for (kind, count), parts in sorted(scores.items())
    )
    samples = tuple(one.sample for one in rebuilt[: config.num_samples])
    return Reconstruction(fidelities=rows, num_frames=sum(one.num_frames for one in rebuilt)), samples


@torch.inference_mode()
def _rebuild_portrait(
    vae: VAE, portrait: HeldPortrait, speeches: Sequence[HeldSpeech], config: ReconstructionConfig, perceptual: Perceptual
) -> _Rebuilt:
    labels_to_latents = LabelLatents(len(LABELS), vae.config.latent_channels)
    rig, side = portrait.rig(), config.size // vae.config.spatial_factor
    rows: list[Fidelity] = []
    samples: list[Sample] = []
    for k, speech in enumerate(speeches):
        clip = render_clip(rig, speech, config, at=(k + 1) / (len(speeches) + 1))
        latents: dict[Kind, Tensor] = {"encoder": vae.encode(to_video(clip.frames)).mean}
        if config.label_latents:
            latents["labels"] = labels_to_latents(torch.from_numpy(clip.labels)[None], side, side)
            known = labels_to_latents(torch.from_numpy(clip.reference_labels)[:, None], side, side).transpose(0, 2)
        copy = np.broadcast_to(clip.references[:1], clip.frames.shape)
        rows.append(Fidelity(kind="copy", num_references=1, score=compare(copy, clip.frames, clip.mouth, perceptual)))
        decoded: list[NDArray[np.uint8]] = []
        middle = len(clip.frames) // 2
        for count in config.reference_counts:
            pictures = to_video(clip.references[:count]).transpose(1, 2)
            for kind, z in latents.items():
                told = known[:, :, :count].transpose(1, 2) if kind == "labels" else None
                rebuilt = rebuild(vae, z, vae.encode_references(pictures, latents=told))
                score = compare(rebuilt, clip.frames, clip.mouth, perceptual)
                rows.append(Fidelity(kind=kind, num_references=count, score=score))
                if kind == "encoder":
                    decoded.append(rebuilt[middle])
        samples.append(
            Sample(
                name=portrait.name,
                reference=clip.references[0],
                truth=clip.frames[middle],
                counts=config.reference_counts,
                decoded=tuple(decoded),
            )
        )
    return _Rebuilt(fidelities=tuple(rows), num_frames=config.num_frames * len(speeches), sample=samples[0])


def render_clip(rig: Rig, speech: HeldSpeech, config: ReconstructionConfig, *, at: float) -> Clip:
    """The clip at share `at` of a performance, and references chosen from the rest of it.

    Raises:
        DataError: the performance is shorter than the clip.
    """
    count, total = config.num_frames, len(speech.motion)
    if total < count:
        raise DataError(f"{speech.name} lasts {total} pictures; expected {count} at least for a clip: give longer recordings")
    start = round(at * (total - count))
    rows = speech.motion[start : start + count]
    labels = rig.labels(speech.motion)
    far = [i for i in range(total) if not start - _APART_FRAMES <= i < start + count + _APART_FRAMES]
    others = choose_references(
        labels, far or list(range(total)), labels[start : start + count].mean(0), rig.labels(rig.rest()[None])[0]
    )
    rendered = [rig.render(row, config.size, flow_size=0) for row in rows]
    shown = [rig.render(motion, config.size, flow_size=0) for motion in (None, *(speech.motion[i] for i in others))]
    return Clip(
        frames=np.stack([frame.image for frame in rendered]),
        references=np.stack([frame.image for frame in shown]),
        labels=labels[start : start + count],
        reference_labels=np.concatenate([rig.labels(rig.rest()[None]), labels[list(others)]]),
        mouth=np.stack([mouth_region(frame.landmarks, config.size) for frame in rendered]),
    )


def choose_references(
    labels: NDArray[np.float32], candidates: list[int], clip: NDArray[np.float32], portrait: NDArray[np.float32]
) -> tuple[int, int]:
    """Two rows of `labels` (F, L) that show what the portrait does not: the widest mouth, and the pose farthest from the rest."""
    opening = in_units(labels, "opening")
    widest = max(candidates, key=lambda i: float(opening[i]))
    columns = [LABELS.index(name) for name in _POSE]
    known = np.stack([clip, portrait, labels[widest]])[:, columns]
    distance = np.linalg.norm(labels[candidates][:, None, columns] - known[None], axis=2).min(axis=1)
    return widest, candidates[int(distance.argmax())]
