"""Whether the face does as it is told: commanded head pose and gaze against what is found in the pictures.

While a person speaks, every control in turn swings once to both sides and then jumps; the others are held ahead. The
animator's own pictures of somebody who speaks, told the same and measured the same way, show how good the ruler is.

Legend: F pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vivavoz.data.gaze import gaze_angles
from vivavoz.data.video.measure import face_labels, measure_heads
from vivavoz.data.visemes import LIPS
from vivavoz.engine.controls import ControlTrack, StreamControls
from vivavoz.engine.model import Model
from vivavoz.evaluate.faces import FindLandmarks, follow_face
from vivavoz.evaluate.kept import Keep, keep_nothing
from vivavoz.evaluate.material import HeldPortrait, Material, pick
from vivavoz.evaluate.metrics import best_lag, pearson
from vivavoz.evaluate.mouth import openings_of, without_lips
from vivavoz.evaluate.speaking import speak
from vivavoz.rig.labels import in_units
from vivavoz.rig.motion import COLUMN, MOTION, Motion
from vivavoz.rig.rig import Rig
from vivavoz.timing import FRAME_RATE, SAMPLES_PER_FRAME

Control = Literal["yaw", "pitch", "gaze yaw", "gaze pitch"]
CONTROLS: tuple[Control, ...] = get_args(Control)

_HIGHEST_RAD: dict[Control, float] = {"yaw": 0.15, "pitch": 0.09, "gaze yaw": 0.25, "gaze pitch": 0.15}
"""How far a command goes: well within what the animator does."""
_REST_SHARE = 1 / 7
_SWING_SHARE = 4 / 7


@dataclass(frozen=True, kw_only=True, slots=True)
class SteeringConfig:
    """What is commanded."""

    num_portraits: int = 3
    seconds: int = 7
    """Of every control."""
    ruler: bool = True
    """Measure the animator too, on the first portrait."""
    ruler_every_frames: int = 5
    size: int | None = 256
    """Side of the pictures that are measured; None: the preset's."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Obedience:
    """One control, means over portraits."""

    control: Control
    r: float
    """Pearson's r of the measured track with the commanded one."""
    gain: float
    """Measured over commanded radians: the slope of the line that fits best."""
    lag_frames: float
    """Pictures that the face is late by, where it agrees best."""
    lowest_r: float
    """Of a portrait."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SteeringResult:
    """What `evaluate_steering` found."""

    num_portraits: int
    model: tuple[Obedience, ...]
    ruler: tuple[Obedience, ...]
    """The animator; none where it was not measured."""


def evaluate_steering(
    model: Model,
    material: Material,
    config: SteeringConfig,
    find: FindLandmarks,
    progress: Callable[[str], None] = lambda _: None,
    keep: Keep = keep_nothing,
) -> SteeringResult:
    """Command held-out portraits, and measure."""
    commands = command(config.seconds)
    wishes = as_wishes(commands)
    measured: list[_Angles] = []
    count = min(config.num_portraits, len(material.portraits))
    for i, portrait in enumerate(material.portraits[:count]):
        sound = np.resize(pick(material.speeches, i).samples, len(commands) * SAMPLES_PER_FRAME)
        steer = partial(_steer, model, portrait, sound, config.seed + i, wishes, config.size, find)
        measured.append(keep(f"portrait-{i}", _Angles, steer))
        progress(f"steering: {i + 1}/{count} portraits")
    ruler: tuple[Obedience, ...] = ()
    if config.ruler:
        step = config.ruler_every_frames
        lips = np.resize(material.speeches[0].motion, (len(commands), len(MOTION)))
        perform = partial(_perform, material.portraits[0], commands[::step], lips[::step], config.size, find)
        ruler = obey(commands[::step], [keep("ruler", _Angles, perform).rad], step_frames=step)
    return SteeringResult(num_portraits=count, model=obey(commands, [one.rad for one in measured]), ruler=ruler)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Angles:
    """What is found in pictures, (F, len(CONTROLS))."""

    rad: NDArray[np.float32]


def _steer(
    model: Model,
    portrait: HeldPortrait,
    sound: NDArray[np.float32],
    seed: int,
    wishes: ControlTrack,
    size: int | None,
    find: FindLandmarks,
) -> _Angles:
    spoken = speak(model, portrait.image, sound, seed=seed, controls=wishes, size=size)
    return _Angles(rad=measure_angles(follow_face(spoken.images, find)))


def _perform(
    portrait: HeldPortrait, commands: NDArray[np.float32], speech: NDArray[np.float32], size: int | None, find: FindLandmarks
) -> _Angles:
    """`speech` (F, len(MOTION)) gives the lips."""
    rig = portrait.rig()
    motion = commanded_motion(rig, commands)
    lips = [COLUMN[name] for name in LIPS]
    motion[:, lips] = speech[:, lips]
    performed = (rig.render(row, size or 512, flow_size=0).image for row in motion)
    return _Angles(rad=measure_angles(follow_face(performed, find)))


def command(seconds: int) -> NDArray[np.float32]:
    """Commanded angles in rad of every picture, (F, len(CONTROLS)): control after control, a swing, then steps to both sides."""
    length = seconds * FRAME_RATE
    time = np.arange(length) / length
    swing = np.sin(2 * np.pi * time / _SWING_SHARE)
    first, second = time < _SWING_SHARE + _REST_SHARE, time < _SWING_SHARE + 2 * _REST_SHARE
    one = np.where(time < _SWING_SHARE, swing, np.where(first, 1.0, np.where(second, -1.0, 0.0)))
    tracks = np.zeros((len(CONTROLS) * length, len(CONTROLS)), np.float32)
    for i, control in enumerate(CONTROLS):
        tracks[i * length : (i + 1) * length, i] = one * _HIGHEST_RAD[control]
    return tracks


def as_wishes(commands: NDArray[np.float32]) -> ControlTrack:
    """Commands (F, len(CONTROLS)) as wishes of somebody who speaks."""
    return ControlTrack(
        times_s=tuple((i + 0.5) / FRAME_RATE for i in range(len(commands))),
        wishes=tuple(
            StreamControls(state="speaking", gaze_rad=(gaze_x, gaze_y), head_pose_rad=(yaw, pitch, 0.0))
            for yaw, pitch, gaze_x, gaze_y in commands.tolist()
        ),
    )


def measure_angles(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Angles in rad, (F, len(CONTROLS)), of landmarks (F, 478, 3) in pixels, without what only the lips did."""
    labels = face_labels(landmarks, measure_heads(landmarks))
    return without_lips(np.concatenate([labels["head_pose"][:, :2], labels["gaze"]], axis=1), openings_of(landmarks))


def obey(
    commands: NDArray[np.float32], measured: Sequence[NDArray[np.float32]], *, step_frames: int = 1
) -> tuple[Obedience, ...]:
    """How tracks (F, len(CONTROLS)) of some portraits agree with the commands, each control where it is commanded.

    `step_frames` is the distance of their rows in pictures.
    """
    length = len(commands) // len(CONTROLS)
    found = []
    for i, control in enumerate(CONTROLS):
        own = slice(i * length, (i + 1) * length)
        told = commands[own, i]
        tracks = [track[own, i] for track in measured]
        rs = [pearson(track, told) for track in tracks]
        found.append(
            Obedience(
                control=control,
                r=fmean(rs),
                gain=fmean(float(np.polyfit(told, track, 1)[0]) for track in tracks),
                lag_frames=fmean(step_frames * best_lag(track, told, max_lag_frames=12 // step_frames)[0] for track in tracks),
                lowest_r=min(rs),
            )
        )
    return tuple(found)


def commanded_motion(rig: Rig, commands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Motion (F, len(MOTION)) that does what is commanded: its parameters are relative to the portrait, commands are not."""
    rest = rig.labels(rig.rest()[None])[0]
    ends = Motion.from_columns(2, {"gaze_x": np.array([-1.0, 1.0]), "gaze_y": np.array([-1.0, 1.0])})
    reach = _gaze(rig.labels(ends.values))

    def gaze(column: int) -> NDArray[np.float64]:
        middle, width = reach[:, column].mean(), reach[1, column] - reach[0, column]
        return np.clip(2 * (commands[:, 2 + column] - middle) / width, -1, 1)

    columns: dict[str, NDArray[np.floating] | float] = {
        "yaw": np.degrees(commands[:, 0]) - float(in_units(rest, "yaw")),
        "pitch": np.degrees(commands[:, 1]) - float(in_units(rest, "pitch")),
        "gaze_x": gaze(0),
        "gaze_y": gaze(1),
    }
    return Motion.from_columns(len(commands), columns).values


def _gaze(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    return gaze_angles(np.stack([in_units(labels, name) for name in ("gaze_x", "gaze_y")], 1))
