"""How soon a change of state shows: two streams alike in everything, sound and noise too, of which one changes its state.

Whatever differs between them is the change's doing. It is measured in pictures, block by block from the first that it holds
for: how far apart the landmarks are, and how different the face looks.

Legend: F pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.engine.controls import ControlTrack, State, StreamControls, Wishes
from vivavoz.engine.model import Model
from vivavoz.evaluate.faces import FindLandmarks, follow_face
from vivavoz.evaluate.kept import Keep, keep_nothing
from vivavoz.evaluate.material import HeldPortrait, Material, pick
from vivavoz.evaluate.speaking import speak
from vivavoz.rig.head_pose import fit_head
from vivavoz.rig.landmarks import OVAL
from vivavoz.timing import FRAME_RATE, FRAMES_PER_LATENT, SAMPLES_PER_FRAME, frames_of_latents

VISIBLE = 0.01
"""Mean way of the landmarks, in face heights, from which on a change counts as seen: 2.4 pixels of a 512 pixel portrait."""
TRANSITIONS: tuple[tuple[State, State], ...] = (("speaking", "listening"), ("listening", "idle"), ("idle", "speaking"))


@dataclass(frozen=True, kw_only=True, slots=True)
class StatesConfig:
    """What is streamed."""

    num_portraits: int = 2
    blocks_before: int = 3
    blocks_after: int = 4
    size: int | None = 256
    """Side of the pictures that are measured; None: the preset's."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A change of state; tuples have an entry for every block from the change on, means over portraits."""

    before: State
    after: State
    moved: tuple[float, ...]
    """Mean way of the landmarks in face heights, at its largest in the block."""
    grey_levels: tuple[float, ...]
    """Mean difference of the face's pixels, 0 to 255, at its largest in the block."""
    first_seen: int | None
    """Blocks until `moved` is at least `VISIBLE`: 0 is the change's own block; None: not in the blocks looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StatesResult:
    """What `evaluate_states` found."""

    num_portraits: int
    block_frames: int
    changes: tuple[Change, ...]


def evaluate_states(
    model: Model,
    material: Material,
    config: StatesConfig,
    find: FindLandmarks,
    progress: Callable[[str], None] = lambda _: None,
    keep: Keep = keep_nothing,
) -> StatesResult:
    """Change states in mid-stream, and look how soon it shows.

    Somebody who speaks, before the change or after it, hears a recording; from listening to idle is tried in silence.
    """
    block = model.preset.sampling.block_latents
    start = frames_of_latents(config.blocks_before * block)
    block_frames = block * FRAMES_PER_LATENT
    stop = start + config.blocks_after * block_frames
    count = min(config.num_portraits, len(material.portraits))
    changes = []
    for before, after in TRANSITIONS:
        moved: list[tuple[float, ...]] = []
        levels: list[tuple[float, ...]] = []
        for i, portrait in enumerate(material.portraits[:count]):
            sound = np.zeros(stop * SAMPLES_PER_FRAME, np.float32)
            if "speaking" in (before, after):
                sound = np.resize(pick(material.speeches, i).samples, len(sound))
            wishes = (StreamControls(state=before), _change(before, after, start))
            part = partial(_part, model, portrait, sound, config.seed + i, range(start, stop), wishes, config.size, find)
            parted = keep(f"{before}-{after}-{i}", _Parted, part)
            moved.append(_by_block(parted.ways, block_frames))
            levels.append(_by_block(parted.grey_levels, block_frames))
            progress(f"states: {before} to {after}, {i + 1}/{count} portraits")
        means = tuple(fmean(column) for column in zip(*moved, strict=True))
        changes.append(
            Change(
                before=before,
                after=after,
                moved=means,
                grey_levels=tuple(fmean(column) for column in zip(*levels, strict=True)),
                first_seen=next((k for k, way in enumerate(means) if way >= VISIBLE), None),
            )
        )
    return StatesResult(num_portraits=count, block_frames=block_frames, changes=tuple(changes))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Parted:
    """How far two streams are apart, (F,) each, as `apart` tells."""

    ways: NDArray[np.float32]
    grey_levels: NDArray[np.float32]


def _part(
    model: Model,
    portrait: HeldPortrait,
    sound: NDArray[np.float32],
    seed: int,
    shown: range,
    wishes: tuple[Wishes, Wishes],
    size: int | None,
    find: FindLandmarks,
) -> _Parted:
    one, other = (
        speak(model, portrait.image, sound, seed=seed, shown=(shown,), controls=wish, size=size).images for wish in wishes
    )
    ways, grey_levels = apart(one, other, find)
    return _Parted(ways=ways, grey_levels=grey_levels)


def apart(
    one: tuple[NDArray[np.uint8], ...], other: tuple[NDArray[np.uint8], ...], find: FindLandmarks
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two streams picture by picture, (F,) each: mean way between landmarks in face heights, mean difference of the face."""
    first, second = follow_face(one, find), follow_face(other, find)
    heights = np.array([fit_head(points).scale_px for points in first])
    ways = np.linalg.norm(first[..., :2] - second[..., :2], axis=2).mean(axis=1) / heights
    differences = []
    for a, b, points in zip(one, other, first, strict=True):
        face = np.zeros(a.shape[:2], np.uint8)
        cv2.fillConvexPoly(face, cv2.convexHull(np.round(points[list(OVAL), :2]).astype(np.int32)), 1)
        gap = np.abs(a.astype(np.int16) - b).mean(axis=2)
        differences.append(float(gap[face != 0].mean()) if face.any() else 0.0)
    return ways.astype(np.float32), np.array(differences, np.float32)


def _change(before: State, after: State, start_frame: int) -> ControlTrack:
    """`before`, and `after` from a picture on; half a picture earlier, so that the latent of that picture is told already."""
    return ControlTrack(
        times_s=(0.0, (start_frame - 0.5) / FRAME_RATE), wishes=(StreamControls(state=before), StreamControls(state=after))
    )


def _by_block(values: NDArray[np.float32], block_frames: int) -> tuple[float, ...]:
    """The largest value of every block."""
    return tuple(float(part.max()) for part in np.split(values, len(values) // block_frames))
