"""What a talking person does, from sound alone: lips from phonemes, and head, eyes, brows and breath from prosody and chance.

Everything is drawn from one seeded generator: the same sound and seed give the same motion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vivavoz.data.emotions import Feelings
from vivavoz.data.gestures import blink, breath, bumps, drift, glances, soft_limit, turns, wander
from vivavoz.data.phonemes import Phoneme, recognise
from vivavoz.data.prosody import Accent, analyse, band_loudness, num_frames_of
from vivavoz.data.visemes import LIPS, LOUDNESS_RATE_HZ, lip_motion
from vivavoz.errors import DataError
from vivavoz.rig.motion import MOTION
from vivavoz.timing import FRAME_RATE

Floats = npt.NDArray[np.float32]
Track = npt.NDArray[np.floating]
Tracks = dict[str, Track]


class State(IntEnum):
    """What the person does in a picture."""

    SPEAKING = 0
    LISTENING = 1
    IDLE = 2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Performance:
    """Motion of F pictures: `motion` float32 (F, len(MOTION)), and what lies behind it."""

    motion: Floats
    states: npt.NDArray[np.uint8]
    """(F,) of `State`."""
    phonemes: tuple[Phoneme, ...]
    feelings: Feelings


@dataclass(frozen=True, kw_only=True, slots=True)
class PerformanceConfig:
    """How lively the person is. Angles in degrees, times in seconds."""

    yaw_deviation_deg: float = 3.5
    pitch_deviation_deg: float = 1.7
    roll_deviation_deg: float = 2.0
    yaw_limit_deg: float = 10.0
    pitch_limit_deg: float = 7.0
    roll_limit_deg: float = 7.0
    nod_deg: float = 3.0
    blink_interval_s: float = 3.5
    pause_s: float = 0.5
    """Silence longer than this is a pause of speech, no longer part of it."""
    pause_state: State = State.IDLE
    """What the person does in pauses, where not told for every picture."""
    tilt_deg: float = 5.5
    """How far the head leans to the right while listening, give or take: always to one side, for the state alone to tell it."""
    turn_deg: float = 0.0
    """Largest of the turns to one side and back that come now and then, oftener while idle; 0 for none."""


def perform(
    samples: Floats,
    *,
    seed: int,
    phonemes: Sequence[Phoneme] | None = None,
    pause_states: npt.NDArray[np.uint8] | None = None,
    feelings: Feelings | None = None,
    config: PerformanceConfig | None = None,
) -> Performance:
    """A person speaking `samples`, at 25 pictures per second, and listening or idle in its pauses.

    Args:
        samples: float32 (N,), 16 kHz, mono, [-1, 1]; gives F = ceil(N / 640) pictures.
        seed: of everything that the sound leaves open.
        phonemes: recognised when not given.
        pause_states: `State` of every picture (F,) that nothing is said in; `config.pause_state` when not given.
        feelings: of F pictures; none when not given.
        config: how lively the person is.

    Raises:
        DataError: sound, pause states or feelings of another shape, or the recogniser is missing.
    """
    if samples.ndim != 1 or not len(samples):
        raise DataError(f"got sound of shape {samples.shape}, expected (N,) with N > 0: mix the channels to mono first")
    config = config or PerformanceConfig()
    phonemes = tuple(recognise(samples) if phonemes is None else phonemes)
    num_frames = num_frames_of(len(samples))
    prosody = analyse(samples)
    fine = band_loudness(samples, num_frames_of(len(samples), LOUDNESS_RATE_HZ), rate_hz=LOUDNESS_RATE_HZ)
    heard = prosody.loudness > _HEARD
    if pause_states is None:
        pause_states = np.full(num_frames, config.pause_state, np.uint8)
    feelings = feelings or Feelings.none(num_frames)
    if pause_states.shape != (num_frames,) or len(feelings.weights) != num_frames:
        raise DataError(
            f"got states of shape {pause_states.shape} and {len(feelings.weights)} feelings; expected {num_frames} each"
        )
    speaking = _close_gaps(heard, round(config.pause_s * FRAME_RATE))
    states = np.where(speaking, State.SPEAKING, pause_states).astype(np.uint8)
    pauses_s = _ends_s(_close_gaps(heard, round(0.2 * FRAME_RATE)))

    rng = np.random.default_rng(seed)
    lips = lip_motion(phonemes, num_frames, loudness=fine)
    motion: Tracks = {name: lips[:, column] for column, name in enumerate(LIPS)}
    motion |= _head(rng, num_frames, prosody.accents, prosody.loudness, states, config)
    motion |= _eyes(rng, pauses_s, motion, states, config)
    motion |= _expression(rng, num_frames, prosody.accents, motion["pucker"])
    motion |= _body(rng, num_frames, pauses_s)
    _attend(np.random.default_rng([seed, 1]), motion, states, config)
    _feel(motion, feelings, states)
    return Performance(motion=_stack(motion), states=states, phonemes=phonemes, feelings=feelings)


def perform_random(num_frames: int, *, seed: int) -> Floats:
    """Motion that covers the whole range of every parameter, independently of the others: float32 (num_frames, len(MOTION)).

    Lips, lids, gaze and head wander between random poses in ways speech rarely combines; smooth, but nobody's behaviour. What
    only expressions move (inner brows, wide eyes, nose) rests: no label of the rig tells of it.
    """
    if num_frames < 1:
        raise DataError(f"got {num_frames} pictures, expected at least 1: ask for one or more")
    rng = np.random.default_rng(seed)
    motion = {
        name: wander(rng, num_frames, lowest=lowest, highest=highest, rests=rests)
        for name, (lowest, highest, rests) in _RANGES.items()
    }
    both = wander(rng, num_frames, lowest=0.0, highest=1.0, rests=0.65)
    for name in ("blink_left", "blink_right"):
        winks = rng.random() < 0.3
        motion[name] = np.maximum(both, wander(rng, num_frames, lowest=0.0, highest=1.0, rests=0.8)) if winks else both
    return _stack(motion)


_HEARD = 0.12
"""Loudness above which something is said."""

_AWAY_ODDS = np.array([0.22, 0.05, 0.4])
"""How often the gaze shifts away rather than within the other's face, by state."""

_TURNS_HZ = np.array([0.04, 0.01, 0.16])
"""Turns of the head per second, by state."""

_RANGES = {
    "jaw": (0.0, 1.0, 0.15),
    "wide": (-1.0, 1.0, 0.35),
    "pucker": (0.0, 1.0, 0.5),
    "press": (0.0, 1.0, 0.75),
    "lower_in": (0.0, 1.0, 0.75),
    "upper_raise": (0.0, 1.0, 0.55),
    "tongue": (0.0, 1.0, 0.5),
    "smile": (-1.0, 1.0, 0.35),
    "gaze_x": (-1.0, 1.0, 0.3),
    "gaze_y": (-1.0, 1.0, 0.3),
    "brow": (-1.0, 1.0, 0.3),
    "yaw": (-12.0, 12.0, 0.1),
    "pitch": (-9.0, 9.0, 0.1),
    "roll": (-8.0, 8.0, 0.1),
    "shift_x": (-0.05, 0.05, 0.2),
    "shift_y": (-0.05, 0.05, 0.2),
    "scale": (-0.06, 0.06, 0.2),
    "breath": (0.0, 0.05, 0.2),
    "light": (-0.2, 0.2, 0.2),
}
"""Lowest and highest value of a parameter in random motion, and how often it rests at zero."""


def _stack(motion: Tracks) -> Floats:
    still = np.zeros_like(motion["jaw"])
    return np.stack([motion.get(name, still) for name in MOTION], axis=1).astype(np.float32)


def _close_gaps(mask: npt.NDArray[np.bool_], longest: int) -> npt.NDArray[np.bool_]:
    """`mask` with the gaps of up to `longest` pictures between two true ones filled."""
    true = np.flatnonzero(mask)
    filled = mask.copy()
    for start, end in pairwise(true):
        if end - start - 1 <= longest:
            filled[start:end] = True
    return filled


def _ends_s(mask: npt.NDArray[np.bool_]) -> list[float]:
    """Times at which a run of true pictures ends."""
    return [float((index + 1) / FRAME_RATE) for index in np.flatnonzero(mask[:-1] & ~mask[1:])]


def _head(
    rng: np.random.Generator,
    num_frames: int,
    accents: Sequence[Accent],
    loudness: Floats,
    states: npt.NDArray[np.uint8],
    config: PerformanceConfig,
) -> Tracks:
    """Slow wandering, a faster sway while speaking, a nod on most accents, and nods of agreement while listening."""
    from scipy.ndimage import gaussian_filter1d

    lively = 0.3 + 0.7 * gaussian_filter1d(loudness.astype(np.float64), 0.3 * FRAME_RATE, mode="nearest")

    def swing(deviation_deg: float) -> Track:
        slow = 0.5 * rng.standard_normal() + 0.75 * drift(rng, num_frames, 0.9) + 0.35 * drift(rng, num_frames, 0.35)
        moved: Track = deviation_deg * (slow + 0.3 * lively * drift(rng, num_frames, 0.18))
        return moved

    nods = [(accent.time_s, config.nod_deg * accent.strength * rng.uniform(0.4, 1.2)) for accent in accents if rng.random() < 0.7]
    if (states == State.LISTENING).any():
        nods += _listening_nods(rng, states, config.nod_deg)
    pitch = swing(config.pitch_deviation_deg) - bumps(num_frames, nods, rise_s=0.2, fall_s=0.35)
    return {
        "yaw": soft_limit(swing(config.yaw_deviation_deg), config.yaw_limit_deg),
        "pitch": soft_limit(pitch - pitch.mean() * 0.5, config.pitch_limit_deg),
        "roll": soft_limit(swing(config.roll_deviation_deg), config.roll_limit_deg),
    }


def _listening_nods(rng: np.random.Generator, states: npt.NDArray[np.uint8], nod_deg: float) -> list[tuple[float, float]]:
    """Two or three small nods in a row, every few seconds of listening."""
    nods: list[tuple[float, float]] = []
    time_s = rng.uniform(0.5, 2.5)
    while time_s < len(states) / FRAME_RATE:
        if states[int(time_s * FRAME_RATE)] == State.LISTENING:
            height = nod_deg * rng.uniform(0.5, 1.1)
            nods += [(time_s + 0.45 * index, height * 0.7**index) for index in range(int(rng.integers(1, 4)))]
        time_s += rng.uniform(2.0, 5.0)
    return nods


def _eyes(
    rng: np.random.Generator,
    pauses_s: Sequence[float],
    motion: Tracks,
    states: npt.NDArray[np.uint8],
    config: PerformanceConfig,
) -> Tracks:
    """Blinks of both eyes together, and a gaze that stays on the camera while the head turns; attentive while listening."""
    lids = blink(rng, len(states), pauses_s, interval_s=config.blink_interval_s)
    gaze_x, gaze_y = glances(rng, _AWAY_ODDS[states])
    return {
        "blink_left": lids,
        "blink_right": lids,
        "gaze_x": np.clip(gaze_x - 0.02 * motion["yaw"], -1.0, 1.0),
        "gaze_y": np.clip(gaze_y - 0.02 * motion["pitch"], -1.0, 1.0),
    }


def _expression(rng: np.random.Generator, num_frames: int, accents: Sequence[Accent], pucker: Track) -> Tracks:
    """Brows that rise on accents, and a faint smile that comes and goes and makes way for rounded lips."""
    raised = [(accent.time_s, accent.strength * rng.uniform(0.3, 0.9)) for accent in accents if rng.random() < 0.45]
    brow = 0.12 * rng.standard_normal() + 0.12 * drift(rng, num_frames, 0.8) + bumps(num_frames, raised, rise_s=0.2, fall_s=0.45)
    smile = 0.1 + 0.15 * rng.standard_normal() + 0.15 * drift(rng, num_frames, 1.0)
    return {"brow": soft_limit(brow, 1.0), "smile": soft_limit(smile, 1.0) * (1.0 - 0.6 * pucker)}


def _body(rng: np.random.Generator, num_frames: int, pauses_s: Sequence[float]) -> Tracks:
    """Breath, and a camera and light that drift."""
    chest = 0.02 * breath(rng, num_frames, pauses_s)
    return {
        "shift_x": 0.01 * drift(rng, num_frames, 1.2),
        "shift_y": 0.007 * drift(rng, num_frames, 1.2),
        "scale": 0.012 * drift(rng, num_frames, 1.5),
        "breath": chest,
        "light": 0.04 * rng.standard_normal() + 0.03 * drift(rng, num_frames, 2.0),
    }


def _attend(rng: np.random.Generator, motion: Tracks, states: npt.NDArray[np.uint8], config: PerformanceConfig) -> None:
    """What the states add, in place, fading into the next: a listener leans the head, an idler breathes deep; turns."""
    from scipy.ndimage import gaussian_filter1d

    listening, idle = (
        gaussian_filter1d((states == state).astype(np.float64), 0.15 * FRAME_RATE, mode="nearest")
        for state in (State.LISTENING, State.IDLE)
    )
    tilt_deg = config.tilt_deg + 1.2 * rng.standard_normal()
    interest = 0.2 + 0.1 * drift(rng, len(states), 0.7)
    if listening.any():
        motion["roll"] = soft_limit(motion["roll"] + tilt_deg * listening, config.roll_limit_deg)
        motion["brow"] = soft_limit(motion["brow"] + interest * listening, 1.0)
        motion["smile"] = soft_limit(motion["smile"] + 0.2 * listening, 1.0)
    motion["breath"] = motion["breath"] * (1.0 + 0.35 * idle)
    if config.turn_deg > 0:
        head, gaze = turns(rng, _TURNS_HZ[states], highest=config.turn_deg)
        motion["yaw"] = motion["yaw"] + head
        motion["pitch"] = motion["pitch"] + 0.12 * rng.standard_normal() * np.abs(head)
        motion["gaze_x"] = np.clip(motion["gaze_x"] + gaze, -1.0, 1.0)


def _feel(motion: Tracks, feelings: Feelings, states: npt.NDArray[np.uint8]) -> None:
    """Lay expressions over what the face does anyway, in place; speech keeps the say over the lips."""
    from scipy.ndimage import gaussian_filter1d

    if not feelings.weights.any():
        return
    quiet = gaussian_filter1d((states != State.SPEAKING).astype(np.float64), 0.12 * FRAME_RATE, mode="nearest")
    unrounded = 1.0 - 0.7 * motion["pucker"]
    motion["jaw"] = np.maximum(motion["jaw"], feelings.added("jaw") * quiet * (1.0 - motion["press"]))
    motion["smile"] = np.clip(motion["smile"] + feelings.added("smile") * unrounded, -1.0, 1.0)
    motion["wide"] = np.clip(motion["wide"] + feelings.added("wide") * unrounded, -1.0, 1.0)
    motion["upper_raise"] = np.clip(motion["upper_raise"] + feelings.added("upper_raise") * (1 - motion["press"]), 0.0, 1.0)
    motion["brow"] = np.clip(motion["brow"] + feelings.added("brow"), -1.0, 1.0)
    motion["gaze_y"] = np.clip(motion["gaze_y"] + feelings.added("gaze_y"), -1.0, 1.0)
    motion["pitch"] = motion["pitch"] + feelings.added("pitch")
    for name in ("brow_inner", "lids", "sneer"):
        motion[name] = feelings.added(name)
