"""Phonemes to the motion of lips, jaw and tongue, with coarticulation.

Every phoneme pulls each lip parameter towards its own target with a dominance that falls off around it; the track is the
dominance-weighted mean of the targets (Cohen and Massaro 1993). Closures (p b m) are laid over it, and the sound's loudness
bounds the opening, so that a misheard phoneme cannot open a pause or shut a loud vowel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vivavoz.data.phonemes import SILENCE, VOWELS, Phoneme
from vivavoz.errors import DataError
from vivavoz.rig.motion import MOTION
from vivavoz.timing import FRAME_RATE

Floats = npt.NDArray[np.float32]
Track = npt.NDArray[np.floating]

LIPS = ("jaw", "wide", "pucker", "press", "lower_in", "upper_raise", "tongue")
"""The columns of a lip track, in order: the first columns of `MOTION`."""
assert MOTION[: len(LIPS)] == LIPS

LOUDNESS_RATE_HZ = 100
"""Values per second of the loudness that bounds the opening."""

CLOSURES = frozenset({"P", "B", "M"})
"""Phonemes in which the lips meet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LipConfig:
    """How phonemes become motion. Times in seconds."""

    closure_ramp_s: float = 0.05
    """Time the lips take to meet and to part."""
    smooth_s: float = 0.016
    """Deviation of the Gaussian over all tracks but closures."""
    quiet_opening: float = 0.65
    """Share of a vowel's opening that is left when it is hardly heard; 1 at full loudness."""
    loud_floor: float = 0.38
    """Opening that full loudness alone brings about."""
    fastest_opening_per_s: float = 12.5
    """Lips cannot open or close faster."""


class Viseme(NamedTuple):
    """Targets of one sound, and how strongly it insists on its opening, its rounding and its place of articulation."""

    jaw: float
    wide: float = 0.0
    pucker: float = 0.0
    lower_in: float = 0.0
    upper_raise: float = 0.0
    tongue: float = 0.0
    opening_force: float = 1.0
    rounding_force: float = 0.5
    place_force: float = 0.5


_AA = Viseme(jaw=0.85, wide=0.05, opening_force=1.3)
_AO = Viseme(jaw=0.58, wide=-0.2, pucker=0.4, opening_force=1.1, rounding_force=0.9)
_EH = Viseme(jaw=0.75, wide=0.3, upper_raise=0.15)
_IY = Viseme(jaw=0.6, wide=0.75, upper_raise=0.15, rounding_force=1.0)
_UW = Viseme(jaw=0.28, wide=-0.5, pucker=0.9, rounding_force=1.3)

_VISEMES: dict[str, tuple[Viseme, ...]] = {
    SILENCE: (Viseme(jaw=0.0, opening_force=0.9, rounding_force=0.5),),
    "AA": (_AA,),
    "AE": (Viseme(jaw=0.74, wide=0.35, upper_raise=0.25, opening_force=1.2),),
    "AH": (Viseme(jaw=0.52, opening_force=0.8, rounding_force=0.3),),
    "AO": (_AO,),
    "AW": (_AA, _UW),
    "AY": (_AA, _IY),
    "EH": (_EH,),
    "ER": (Viseme(jaw=0.42, pucker=0.35, rounding_force=0.7),),
    "EY": (_EH, _IY),
    "IH": (Viseme(jaw=0.5, wide=0.35, rounding_force=0.6),),
    "IY": (_IY,),
    "OW": (_AO, _UW),
    "OY": (_AO, _IY),
    "UH": (Viseme(jaw=0.42, wide=-0.2, pucker=0.5, rounding_force=0.9),),
    "UW": (_UW,),
    "P": (Viseme(jaw=0.02, opening_force=1.5, rounding_force=0.1),),
    "B": (Viseme(jaw=0.02, opening_force=1.5, rounding_force=0.1),),
    "M": (Viseme(jaw=0.02, opening_force=1.5, rounding_force=0.1),),
    "F": (Viseme(jaw=0.1, lower_in=1.0, upper_raise=0.2, opening_force=1.4, rounding_force=0.3, place_force=2.0),),
    "V": (Viseme(jaw=0.1, lower_in=0.9, upper_raise=0.2, opening_force=1.2, rounding_force=0.3, place_force=2.0),),
    "TH": (Viseme(jaw=0.15, tongue=1.0, opening_force=1.0, rounding_force=0.2, place_force=1.5),),
    "DH": (Viseme(jaw=0.2, tongue=0.85, opening_force=0.8, rounding_force=0.2, place_force=1.3),),
    "T": (Viseme(jaw=0.38, tongue=0.35, opening_force=0.7, rounding_force=0.15),),
    "D": (Viseme(jaw=0.32, tongue=0.35, opening_force=0.7, rounding_force=0.15),),
    "N": (Viseme(jaw=0.29, tongue=0.35, opening_force=0.7, rounding_force=0.15),),
    "L": (Viseme(jaw=0.47, tongue=0.75, opening_force=0.6, rounding_force=0.2, place_force=1.2),),
    "S": (Viseme(jaw=0.42, wide=0.35, upper_raise=0.2, opening_force=1.1, rounding_force=0.3),),
    "Z": (Viseme(jaw=0.38, wide=0.35, upper_raise=0.2, opening_force=1.0, rounding_force=0.3),),
    "SH": (Viseme(jaw=0.27, wide=-0.2, pucker=0.6, upper_raise=0.3, opening_force=1.1, rounding_force=1.1),),
    "ZH": (Viseme(jaw=0.27, wide=-0.2, pucker=0.6, upper_raise=0.3, opening_force=1.0, rounding_force=1.1),),
    "CH": (Viseme(jaw=0.27, wide=-0.2, pucker=0.55, upper_raise=0.3, opening_force=1.1, rounding_force=1.0),),
    "JH": (Viseme(jaw=0.27, wide=-0.2, pucker=0.5, upper_raise=0.3, opening_force=1.0, rounding_force=1.0),),
    "K": (Viseme(jaw=0.44, opening_force=0.3, rounding_force=0.1),),
    "G": (Viseme(jaw=0.4, opening_force=0.3, rounding_force=0.1),),
    "NG": (Viseme(jaw=0.38, opening_force=0.3, rounding_force=0.1),),
    "R": (Viseme(jaw=0.08, wide=-0.15, pucker=0.5, opening_force=0.7, rounding_force=0.9),),
    "W": (Viseme(jaw=0.02, wide=-0.55, pucker=1.0, opening_force=1.1, rounding_force=1.6),),
    "Y": (Viseme(jaw=0.38, wide=0.55, opening_force=0.6, rounding_force=0.7),),
    "HH": (Viseme(jaw=0.4, opening_force=0.15, rounding_force=0.05, place_force=0.2),),
}

_FORCE_OF = {
    "jaw": "opening",
    "wide": "rounding",
    "pucker": "rounding",
    "lower_in": "place",
    "upper_raise": "place",
    "tongue": "place",
}
_REACH_S = {"opening": 0.025, "rounding": 0.06, "place": 0.035}
_YIELDING_S = 0.03
"""Part of a sound, at each of its ends, in which it gives way to its neighbour."""
_FAINT = 1e-3
_OVERSAMPLING = 5


class _Pull(NamedTuple):
    """One target and when it holds."""

    viseme: Viseme
    start_s: float
    end_s: float


def lip_motion(
    phonemes: Sequence[Phoneme],
    num_frames: int,
    *,
    loudness: Floats | None = None,
    rate_hz: float = FRAME_RATE,
    config: LipConfig | None = None,
) -> Floats:
    """Lip parameters per picture, float32 (num_frames, len(LIPS)): `wide` in [-1, 1], the others in [0, 1].

    `loudness`: float32 (N,) in [0, 1] at `LOUDNESS_RATE_HZ`; without it speech counts as loud and pauses as silent. Picture i
    is taken at (i + 0.5) / `rate_hz` seconds. Raises `DataError` for a symbol that is not ARPAbet.
    """
    config = config or LipConfig()
    unknown = sorted({phoneme.symbol for phoneme in phonemes} - _VISEMES.keys())
    if unknown:
        raise DataError(f"got phoneme {unknown[0]!r}, expected ARPAbet without stress marks: map it first")
    # An odd number of fine steps per picture puts one of them at the picture's centre.
    steps = num_frames * _OVERSAMPLING
    times_s = (np.arange(steps) + 0.5) / (rate_hz * _OVERSAMPLING)
    heard = _loudness_at(times_s, phonemes, loudness)
    tracks = _blend(_pulls(phonemes, times_s, heard), times_s)
    tracks["jaw"] = _bounded_opening(tracks["jaw"], times_s, heard, config)
    lips = np.zeros((num_frames, len(LIPS)), np.float64)
    for name, track in tracks.items():
        lips[:, LIPS.index(name)] = _smooth(track, config.smooth_s * rate_hz * _OVERSAMPLING)[_OVERSAMPLING // 2 :: _OVERSAMPLING]
    press = _closures(phonemes, times_s[_OVERSAMPLING // 2 :: _OVERSAMPLING], times_s, heard, rate_hz, config)
    lips[:, LIPS.index("press")] = press
    jaw = LIPS.index("jaw")
    lips[:, jaw] = _limit_speed(lips[:, jaw] * (1.0 - 0.85 * press), config.fastest_opening_per_s / rate_hz)
    lowest = np.array([-1.0 if name == "wide" else 0.0 for name in LIPS])
    return np.clip(lips, lowest, 1.0).astype(np.float32)


def _loudness_at(times_s: Track, phonemes: Sequence[Phoneme], loudness: Floats | None) -> Track:
    if loudness is not None and len(loudness):
        return np.interp(times_s, (np.arange(len(loudness)) + 0.5) / LOUDNESS_RATE_HZ, loudness)
    heard = np.zeros_like(times_s)
    for phoneme in phonemes:
        if phoneme.symbol != SILENCE:
            heard[(times_s >= phoneme.start_s) & (times_s < phoneme.end_s)] = 0.8
    return heard


def _pulls(phonemes: Sequence[Phoneme], times_s: Track, heard: Track) -> list[_Pull]:
    """Targets in order of time; diphthongs give two, and a vowel opens as far as it is loud."""
    pulls = []
    for phoneme in phonemes:
        visemes = _VISEMES[phoneme.symbol]
        share_s = (phoneme.end_s - phoneme.start_s) / len(visemes)
        first, last = np.searchsorted(times_s, (phoneme.start_s, phoneme.end_s))
        loud = float(heard[first:last].max(initial=0.0))
        for index, viseme in enumerate(visemes):
            if phoneme.symbol in VOWELS:
                viseme = viseme._replace(jaw=viseme.jaw * (0.7 + 0.4 * loud))
            start_s = phoneme.start_s + index * share_s
            pulls.append(_Pull(viseme, start_s, start_s + share_s))
    return pulls


def _blend(pulls: Sequence[_Pull], times_s: Track) -> dict[str, Track]:
    """Dominance-weighted mean of the targets at `times_s`, per parameter."""
    weighted = {name: np.zeros_like(times_s) for name in _FORCE_OF}
    total = {force: np.full_like(times_s, 1e-9) for force in _REACH_S}
    for pull in pulls:
        half_s = (pull.end_s - pull.start_s) / 2
        middle_s, core_s = pull.start_s + half_s, half_s - min(half_s / 2, _YIELDING_S)
        for force, reach_s in _REACH_S.items():
            far_s = core_s - reach_s * np.log(_FAINT)
            first, last = np.searchsorted(times_s, (middle_s - far_s, middle_s + far_s))
            away_s = np.maximum(np.abs(times_s[first:last] - middle_s) - core_s, 0.0)
            dominance = getattr(pull.viseme, f"{force}_force") * np.exp(-away_s / reach_s)
            total[force][first:last] += dominance
            for name, own in _FORCE_OF.items():
                if own == force:
                    weighted[name][first:last] += dominance * getattr(pull.viseme, name)
    return {name: weighted[name] / total[force] for name, force in _FORCE_OF.items()}


def _bounded_opening(jaw: Track, times_s: Track, heard: Track, config: LipConfig) -> Track:
    """The opening that phonemes ask for, held between what silence and what loudness allow."""
    from scipy.ndimage import maximum_filter1d

    step_s = float(times_s[1] - times_s[0]) if len(times_s) > 1 else 1.0
    scaled = jaw * (config.quiet_opening + (1.0 - config.quiet_opening) * np.clip(heard / 0.8, 0.0, 1.0))
    floor = config.loud_floor * np.clip((heard - 0.78) / 0.22, 0.0, 1.0)
    # Lips open a little before the sound and stay open a little after; quiet consonants inside a word are no pause.
    sounding = maximum_filter1d(heard, max(1, 2 * round(0.06 / step_s) + 1), mode="nearest") if len(heard) else heard
    gate = np.clip((sounding - 0.06) / 0.16, 0.0, 1.0)
    opening: Track = np.maximum(scaled, floor) * gate
    return opening


def _closures(
    phonemes: Sequence[Phoneme], centres_s: Track, times_s: Track, heard: Track, rate_hz: float, config: LipConfig
) -> Track:
    """How firmly the lips are shut at each picture's centre: 1 in at least one picture of every p, b and m."""
    press = np.zeros_like(centres_s)
    if not len(press):
        return press
    for phoneme in phonemes:
        if phoneme.symbol not in CLOSURES:
            continue
        # A stop is shut until its burst; its tail is breath. The quietest moment tells where.
        shut_s = phoneme.end_s - phoneme.start_s if phoneme.symbol == "M" else 0.65 * (phoneme.end_s - phoneme.start_s)
        first, last = np.searchsorted(times_s, (phoneme.start_s, phoneme.start_s + shut_s))
        middle_s = phoneme.start_s + shut_s / 2
        if phoneme.symbol != "M" and last > first:
            middle_s = 0.5 * (middle_s + float(times_s[first + int(np.argmin(heard[first:last]))]))
        away_s = np.maximum(np.abs(centres_s - middle_s) - shut_s / 4, 0.0)
        press = np.maximum(press, np.clip(1.0 - away_s / config.closure_ramp_s, 0.0, 1.0))
        press[min(max(int(middle_s * rate_hz), 0), len(press) - 1)] = 1.0
    return press


def _limit_speed(track: Track, step: float) -> Track:
    """The highest track below `track` that changes by no more than `step` from one picture to the next."""
    ramp = step * np.arange(len(track))
    rising = np.minimum.accumulate(track - ramp) + ramp
    limited: Track = np.minimum.accumulate((rising + ramp)[::-1])[::-1] - ramp
    return limited


def _smooth(track: Track, deviation_steps: float) -> Track:
    from scipy.ndimage import gaussian_filter1d

    smoothed: Track = gaussian_filter1d(track, deviation_steps, mode="nearest") if len(track) else track
    return smoothed
