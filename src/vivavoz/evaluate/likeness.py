"""Whether the generated person is the one of the portrait, and how good the pictures are: against the animator's, in one pose.

The model is asked for the animator's head pose and gaze, so that its pictures can be laid over the animator's. Identity is the
likeness of faces aligned by landmarks: the cosine of their descriptors, less the mean of all portraits' descriptors. It stands
between a floor, the likeness to other people's portraits, and a ceiling, that of the animator's own pictures in the same poses.

Legend: F pictures, D numbers of a descriptor, P portraits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vivavoz.data.gaze import gaze_angles
from vivavoz.engine.controls import ControlTrack, StreamControls
from vivavoz.engine.model import Model
from vivavoz.evaluate.faces import FindLandmarks, align_face, aligned_landmarks
from vivavoz.evaluate.fidelity import to_video
from vivavoz.evaluate.kept import Keep, keep_nothing
from vivavoz.evaluate.material import HeldPortrait, HeldSpeech, Material, pick
from vivavoz.evaluate.metrics import psnr
from vivavoz.evaluate.speaking import speak
from vivavoz.evaluate.videos.identity import load_recogniser
from vivavoz.rig.labels import in_units
from vivavoz.rig.rig import Rig
from vivavoz.timing import FRAME_RATE
from vivavoz.train.perceptual import Perceptual, SqueezeNetDistance


@dataclass(frozen=True, kw_only=True, slots=True)
class LikenessConfig:
    """What is generated."""

    num_portraits: int = 12
    num_frames: int = 75
    num_shown: int = 24
    """Pictures made, at the end."""
    num_scored: int = 4
    """Of these, looked at."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Likeness:
    """Means over pictures of all portraits."""

    descriptor: str
    """What identity is told by."""
    num_pictures: int
    num_lost: int
    """Generated pictures in which no face was found; left out."""
    same: float
    """Cosine to the own portrait."""
    others: float
    """To the other portraits: the floor."""
    animator: float
    """Of the animator's pictures to their own portrait: the ceiling."""
    nearest: float
    """Share of pictures that are nearer to their own portrait than to any other."""
    animator_nearest: float
    """The same of the animator's pictures."""
    psnr_db: float
    """Of whole pictures against the animator's in the same pose."""
    face_psnr_db: float
    """Of aligned faces."""
    face_perceptual: float
    """Perceptual distance of aligned faces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptor:
    """A face in numbers."""

    name: str
    of: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    """Aligned face (S, S, 3) -> (D,)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pose:
    """An animator's picture and the generated one of the same moment."""

    owner: int
    """Which portrait."""
    generated: NDArray[np.uint8]
    performed: NDArray[np.uint8]
    generated_face: NDArray[np.uint8]
    """Aligned."""
    performed_face: NDArray[np.uint8]


def evaluate_likeness(
    model: Model,
    material: Material,
    config: LikenessConfig,
    find: FindLandmarks,
    descriptor: Descriptor,
    perceptual: Perceptual,
    progress: Callable[[str], None] = lambda _: None,
    keep: Keep = keep_nothing,
) -> tuple[Likeness, tuple[Pose, ...]]:
    """Let portraits speak in the animator's poses, and compare pictures and faces; and the pictures themselves."""
    portraits = material.portraits
    known = np.stack([descriptor.of(align_face(one.image, one.landmarks)) for one in portraits])
    shown: list[_Shown] = []
    count = min(config.num_portraits, len(portraits))
    for i, portrait in enumerate(portraits[:count]):
        speech = pick(material.speeches, i).cut(config.num_frames)
        shown.append(keep(f"portrait-{i}", _Shown, partial(_show, model, portrait, speech, i, config, find)))
        progress(f"likeness: {i + 1}/{count} portraits")
    poses = tuple(pose for one in shown for pose in one.poses)
    return judge(poses, known, descriptor, perceptual, sum(one.num_lost for one in shown)), poses


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Shown:
    """One portrait's pictures, and in how many more no face was found."""

    poses: tuple[Pose, ...]
    num_lost: int


def _show(
    model: Model, portrait: HeldPortrait, speech: HeldSpeech, number: int, config: LikenessConfig, find: FindLandmarks
) -> _Shown:
    rig = portrait.rig()
    shown = range(max(len(speech.motion) - config.num_shown, 0), len(speech.motion))
    wishes = performed_wishes(rig, speech) if model.preset.generator.controls else None
    spoken = speak(model, portrait.image, speech.samples, seed=config.seed + number, shown=(shown,), controls=wishes)
    poses: list[Pose] = []
    for index in np.linspace(0, len(shown) - 1, config.num_scored).astype(int):
        generated, row = spoken.images[index], speech.motion[shown[index]]
        performed = rig.render(row, size=len(generated), flow_size=0)
        points = find(generated)
        if points is None:
            continue
        poses.append(
            Pose(
                owner=number,
                generated=generated,
                performed=performed.image,
                generated_face=align_face(generated, points),
                performed_face=align_face(performed.image, performed.landmarks),
            )
        )
    return _Shown(poses=tuple(poses), num_lost=config.num_scored - len(poses))


def judge(
    poses: Sequence[Pose], known: NDArray[np.float32], descriptor: Descriptor, perceptual: Perceptual, num_lost: int = 0
) -> Likeness:
    """Scores of pictures, given the descriptors (P, D) of all portraits; `owner` counts in them."""
    middle = known.mean(axis=0) if len(known) > 1 else np.zeros_like(known[0])
    wanted = _unit(known - middle)
    owners = np.array([pose.owner for pose in poses], int)
    likes, ideal = (
        _unit(np.stack([descriptor.of(face) for face in faces]) - middle) @ wanted.T if poses else np.zeros((0, len(known)))
        for faces in ([pose.generated_face for pose in poses], [pose.performed_face for pose in poses])
    )
    own = np.arange(len(known)) == owners[:, None]
    return Likeness(
        descriptor=descriptor.name,
        num_pictures=len(poses),
        num_lost=num_lost,
        same=_mean(likes[own]),
        others=_mean(likes[~own]),
        animator=_mean(ideal[own]),
        nearest=_mean(likes.argmax(axis=1) == owners),
        animator_nearest=_mean(ideal.argmax(axis=1) == owners),
        psnr_db=_mean([_psnr(pose.generated, pose.performed) for pose in poses]),
        face_psnr_db=_mean([_psnr(pose.generated_face, pose.performed_face) for pose in poses]),
        face_perceptual=_mean([_distance(pose, perceptual) for pose in poses]),
    )


def performed_wishes(rig: Rig, speech: HeldSpeech) -> ControlTrack:
    """The animator's head pose and gaze in every picture, as wishes."""
    labels = rig.labels(speech.motion)
    poses = np.radians(np.stack([in_units(labels, name) for name in ("yaw", "pitch", "roll")], 1)).tolist()
    gazes = gaze_angles(np.stack([in_units(labels, name) for name in ("gaze_x", "gaze_y")], 1)).tolist()
    return ControlTrack(
        times_s=tuple((i + 0.5) / FRAME_RATE for i in range(len(poses))),
        wishes=tuple(
            StreamControls(gaze_rad=tuple(gaze), head_pose_rad=tuple(pose)) for gaze, pose in zip(gazes, poses, strict=True)
        ),
    )


def choose_descriptor(squeezenet: tuple[Path, Path] | None = None, face_model: Path | None = None) -> Descriptor:
    """What tells faces apart: a face-recognition network where one is given, else SqueezeNet's features, else edges (HOG).

    Args:
        squeezenet: as for `choose_perceptual`.
        face_model: ONNX file of a network in ArcFace's manner: (1, 3, 112, 112) RGB in [-1, 1] to one vector.

    Raises:
        WeightsError: the network cannot be read or run.
        WeightsError, ConfigError: as `SqueezeNetDistance.load`.
    """
    if face_model is not None:
        return _face_network(face_model)
    if squeezenet is not None:
        network = SqueezeNetDistance().load(*squeezenet)

        def features(face: NDArray[np.uint8]) -> NDArray[np.float32]:
            """The last depth, in a grid of 4 x 4 places."""
            with torch.inference_mode():
                last = network.features(to_video(face[None])[:, :, 0])[-1]
                return np.asarray(torch.nn.functional.adaptive_avg_pool2d(last, 4).flatten().numpy(), np.float32)

        return Descriptor(name="SqueezeNet features, 4 x 4 places", of=features)
    gradients = cv2.HOGDescriptor((128, 128), (32, 32), (16, 16), (16, 16), 9)

    def edges(face: NDArray[np.uint8]) -> NDArray[np.float32]:
        small = cv2.resize(face, (128, 128), interpolation=cv2.INTER_AREA)
        return np.asarray(gradients.compute(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)), np.float32).ravel()

    return Descriptor(name="histograms of gradients (HOG)", of=edges)


def _face_network(path: Path) -> Descriptor:
    """Faces come aligned, so that landmarks lie where a mean face has them; from there to the network's place it is one shift."""
    recognise, places = load_recogniser(path), aligned_landmarks()
    return Descriptor(name=f"face recognition ({path.name})", of=lambda face: recognise(face, places))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)


def _psnr(picture: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    a, b = (to_video(one[None])[:, :, 0] for one in (picture, truth))
    return float(psnr(a, b)[0])


def _distance(pose: Pose, perceptual: Perceptual) -> float:
    a, b = (to_video(face[None])[:, :, 0] for face in (pose.generated_face, pose.performed_face))
    with torch.inference_mode():
        return float(perceptual.distance(a, b))


def _mean(values: Sequence[float] | NDArray) -> float:
    return fmean(map(float, values)) if len(values) else float("nan")
