"""Heads that move to speech without being drawn: from recordings alone, as many pairs of sound and movement as one wants.

The animator's rules move them (`vivavoz.data.performance`): nods on accents, a sway that is livelier in loud speech, and much
that has nothing to do with the sound. One recording gives many performances, at several speeds: too many to learn by heart.

Legend: T pictures, F rows of motion, P figures of a pose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from vivavoz.data.animation import ClipPlan, act
from vivavoz.data.corpus import Reader
from vivavoz.data.performance import State
from vivavoz.evaluate.videos.capp import WINDOW_FRAMES, HeadClip, pose_figures
from vivavoz.evaluate.videos.sync import mel_frames
from vivavoz.rig.head_pose import HeadFit, rotation
from vivavoz.rig.motion import COLUMN
from vivavoz.rig.rig import HEAD_RISE
from vivavoz.timing import SAMPLES_PER_FRAME

SPEEDS = (Fraction(5, 6), Fraction(12, 13), Fraction(1), Fraction(12, 11), Fraction(6, 5))
"""A recording played slower or faster is another voice that says it another way."""
_REST_DEG = (5.0, 4.0, 3.0)
"""Deviations of the pose that a head moves about: yaw, pitch, roll."""


def perform_heads(
    readers: Sequence[Reader],
    *,
    num_each: int,
    seed: int,
    speeds: Sequence[Fraction] = SPEEDS,
    progress: Callable[[str], None] = lambda _: None,
) -> list[HeadClip]:
    """`num_each` performances of every recording at every speed; recordings shorter than a window are left out."""
    found: list[HeadClip] = []
    for index, reader in enumerate(readers):
        rng = np.random.default_rng([seed, index])
        for speed in speeds:
            played = at_speed(reader, speed)
            if len(played.samples) < WINDOW_FRAMES * SAMPLES_PER_FRAME:
                continue
            mel = mel_frames(played.samples)
            found += [HeadClip(poses=torch.from_numpy(_perform(played, rng)), mel=mel) for _ in range(num_each)]
        if index % 20 == 0:
            progress(f"{len(found)} performances of {index + 1} of {len(readers)} recordings")
    return found


def at_speed(reader: Reader, speed: Fraction) -> Reader:
    """A recording played so many times as fast, higher or lower with it; without its phonemes, which heads do not heed."""
    from scipy.signal import resample_poly

    samples = resample_poly(reader.samples, speed.denominator, speed.numerator).astype(np.float32)
    return Reader(name=f"{reader.name} x {speed}", samples=samples, phonemes=())


def head_track(motion: NDArray[np.float32], rest: NDArray[np.float64]) -> NDArray[np.float32]:
    """What `capp.pose_track` measures, (F, P), of a face that rests at a rotation (3, 3) and moves so, (F, len(MOTION))."""
    at_rest = HeadFit(rotation=rest, scale_px=1.0, origin_px=np.zeros(3))
    heads = []
    for row in motion:
        turn = rotation(*(float(row[COLUMN[name]]) for name in ("yaw", "pitch", "roll")))
        zoom = float(np.exp(row[COLUMN["scale"]]))
        moved = zoom * (at_rest.pivot_px - turn @ at_rest.pivot_px)
        moved[:2] += [row[COLUMN["shift_x"]], row[COLUMN["shift_y"]] - HEAD_RISE * zoom * row[COLUMN["breath"]]]
        heads.append(HeadFit(rotation=turn @ rest, scale_px=zoom, origin_px=moved))
    return pose_figures(heads)


def _perform(reader: Reader, rng: np.random.Generator) -> NDArray[np.float32]:
    """Poses (T, P) of one performance of a whole recording, by a head that rests somewhere near the front."""
    plan = ClipPlan(
        key=reader.name,
        portrait="",
        reader=reader.name,
        seed=int(rng.integers(2**31)),
        lead_frames=0,
        first_frame=0,
        speech_frames=len(reader.samples) // SAMPLES_PER_FRAME,
        tail_frames=0,
        lead_state=int(rng.choice([State.IDLE, State.LISTENING])),
        tail_state=State.IDLE,
    )
    rest = rotation(*(float(angle) for angle in rng.normal(0, _REST_DEG)))
    return head_track(act(plan, reader)[1].motion, rest)
