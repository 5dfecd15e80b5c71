"""The small movements a performance is made of, each a track of one value per picture at 25 pictures per second."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vivavoz.rig.smoothstep import smoothstep
from vivavoz.timing import FRAME_RATE

Track = npt.NDArray[np.floating]

_BLINK = np.array([0.35, 0.9, 1.0, 1.0, 0.75, 0.45, 0.15])
_QUICK_BLINK = np.array([0.5, 1.0, 1.0, 0.6, 0.2])


def drift(rng: np.random.Generator, num_frames: int, deviation_s: float) -> Track:
    """Smooth noise of unit variance; `deviation_s` is that of the Gaussian it is smoothed by, a fifth of a typical swing."""
    from scipy.ndimage import gaussian_filter1d

    steps = deviation_s * FRAME_RATE
    margin = int(4 * steps) + 1
    noise: Track = gaussian_filter1d(rng.standard_normal(num_frames + 2 * margin), steps)[margin : margin + num_frames]
    return noise * float(np.sqrt(2.0 * np.sqrt(np.pi) * steps))


def soft_limit(track: Track, limit: float) -> Track:
    """`track` bent so that it never passes plus or minus `limit`; hardly changed below half of it."""
    bent: Track = limit * np.tanh(track / limit)
    return bent


def bumps(num_frames: int, events: Sequence[tuple[float, float]], *, rise_s: float, fall_s: float) -> Track:
    """Sum of smooth bumps: (time of the top in seconds, height), rising and falling in the given times."""
    centres_s = (np.arange(num_frames) + 0.5) / FRAME_RATE
    track = np.zeros(num_frames)
    for time_s, height in events:
        away = (centres_s - time_s) / np.where(centres_s < time_s, rise_s, fall_s)
        track += height * 0.5 * (1.0 + np.cos(np.pi * np.clip(away, -1.0, 1.0)))
    return track


def glide(num_frames: int, times_s: Sequence[float], values: Sequence[float], *, move_s: float) -> Track:
    """Holds `values[k]` from `times_s[k]` on, each reached with a smooth step of up to `move_s`; before the first, the first."""
    centres_s = (np.arange(num_frames) + 0.5) / FRAME_RATE
    track = np.full(num_frames, values[0], dtype=np.float64)
    for time_s, before, after in zip(times_s[1:], values[:-1], values[1:], strict=True):
        track += (after - before) * smoothstep(time_s, time_s + move_s, centres_s)
    return track


def blink(rng: np.random.Generator, num_frames: int, pauses_s: Sequence[float], *, interval_s: float) -> Track:
    """Lids in [0, 1] (1 shut): a blink every `interval_s` on average, drawn to the beginning of a pause close by."""
    track = np.zeros(num_frames)
    time_s = rng.exponential(interval_s)
    while time_s < num_frames / FRAME_RATE:
        near = [pause_s for pause_s in pauses_s if abs(pause_s - time_s) < 0.7]
        at_s = near[0] if near and rng.random() < 0.7 else time_s
        shape = _BLINK if rng.random() < 0.7 else _QUICK_BLINK
        first = int(at_s * FRAME_RATE)
        end = min(first + len(shape), num_frames)
        track[first:end] = np.maximum(track[first:end], shape[: end - first])
        # Now and then a second blink follows at once.
        time_s = max(at_s, time_s) + (0.4 if rng.random() < 0.08 else 0.7 + rng.exponential(interval_s - 0.7))
    return track


def glances(rng: np.random.Generator, away_odds: Track) -> tuple[Track, Track]:
    """Gaze in [-1, 1], right and up or down alike: mostly the camera, small shifts between its parts, short glances away.

    `away_odds` (F,): how likely a shift in each picture leads away.
    """
    num_frames = len(away_odds)
    times_s, xs, ys = [0.0], [0.0], [0.0]
    time_s = rng.uniform(0.2, 1.5)
    while time_s < num_frames / FRAME_RATE:
        away = rng.random() < away_odds[int(time_s * FRAME_RATE)]
        spread = (0.42, 0.25) if away else (0.05, 0.035)
        times_s.append(time_s)
        xs.append(float(np.clip(rng.normal(0.0, spread[0]), -0.85, 0.85)))
        ys.append(float(np.clip(rng.normal(0.0, spread[1]), -0.6, 0.6)))
        time_s += rng.uniform(0.3, 1.0) if away else rng.uniform(0.4, 2.2)
    # Two pictures for a saccade: the eye is quick, the picture still shows it travelling.
    move_s = 2.5 / FRAME_RATE
    return glide(num_frames, times_s, xs, move_s=move_s), glide(num_frames, times_s, ys, move_s=move_s)


def turns(rng: np.random.Generator, rate_hz: Track, *, highest: float) -> tuple[Track, Track]:
    """Turns of the head to one side and back, each held a while; and of the gaze, which leads and then returns: both (F,).

    `rate_hz` (F,): how many turns begin per second in each picture. The head's turns reach 0.45 to 1 times `highest`, the
    gaze's 0.25 to 0.6.
    """
    num_frames = len(rate_hz)
    head, gaze = np.zeros(num_frames), np.zeros(num_frames)
    centres_s = (np.arange(num_frames) + 0.5) / FRAME_RATE
    first = 0
    while first < num_frames:
        if rng.random() >= rate_hz[first] / FRAME_RATE:
            first += 1
            continue
        side, height, hold_s = rng.choice([-1.0, 1.0]), rng.uniform(0.45, 1.0), rng.uniform(0.5, 2.2)
        move_s = 0.3 + 0.45 * height
        start_s = first / FRAME_RATE
        end_s = start_s + move_s + hold_s
        head += (
            side
            * height
            * highest
            * (smoothstep(start_s, start_s + move_s, centres_s) - smoothstep(end_s, end_s + move_s, centres_s))
        )
        look = side * (0.25 + 0.35 * height)
        gaze += look * (smoothstep(start_s - 0.1, start_s, centres_s) - smoothstep(end_s - 0.1, end_s, centres_s))
        first += int((2 * move_s + hold_s + 0.5) * FRAME_RATE)
    return head, gaze


def breath(rng: np.random.Generator, num_frames: int, pauses_s: Sequence[float]) -> Track:
    """Chest in [0, 1] (1 full): a quick breath in at pauses, or after about four seconds, and a slow one out."""
    times_s, time_s = [], -rng.uniform(0.0, 4.0)
    while time_s < num_frames / FRAME_RATE + 4.0:
        times_s.append(time_s)
        due_s = time_s + rng.uniform(3.2, 4.8)
        near = [pause_s for pause_s in pauses_s if 1.8 < pause_s - time_s < 5.5]
        time_s = min(near, key=lambda pause_s: abs(pause_s - due_s)) if near else due_s
    centres_s = (np.arange(num_frames) + 0.5) / FRAME_RATE
    track = np.zeros(num_frames)
    for start_s, next_s in pairwise(times_s):
        here = (centres_s >= start_s) & (centres_s < next_s)
        top_s = start_s + min(0.9, 0.4 * (next_s - start_s))
        away = np.where(centres_s < top_s, (top_s - centres_s) / (top_s - start_s), (centres_s - top_s) / (next_s - top_s))
        track[here] = 0.5 * (1.0 + np.cos(np.pi * np.clip(away[here], 0.0, 1.0)))
    return track


def wander(rng: np.random.Generator, num_frames: int, *, lowest: float, highest: float, rests: float) -> Track:
    """Smooth walk between random values, the ends among them more often than chance; a share `rests` of them are zero."""
    times_s, values = [0.0], [0.0]
    time_s = -2.0
    while time_s < num_frames / FRAME_RATE:
        draw = rng.random()
        value = float(rng.uniform(lowest, highest)) if draw < 0.75 else (lowest if draw < 0.85 else highest)
        times_s.append(time_s)
        values.append(0.0 if rng.random() < rests else value)
        time_s += rng.uniform(0.2, 1.2)
    return glide(num_frames, times_s, values, move_s=rng.uniform(0.16, 0.32))
