import numpy as np
import pytest

from vivavoz.data.phonemes import SILENCE, Phoneme
from vivavoz.data.visemes import CLOSURES, LIPS, lip_motion
from vivavoz.errors import DataError

JAW, WIDE, PUCKER, PRESS = (LIPS.index(name) for name in ("jaw", "wide", "pucker", "press"))
LOWER_IN, TONGUE = LIPS.index("lower_in"), LIPS.index("tongue")


def spell(text: str, sound_s: float = 0.1) -> list[Phoneme]:
    symbols = text.split()
    return [Phoneme(symbol=symbol, start_s=i * sound_s, end_s=(i + 1) * sound_s) for i, symbol in enumerate(symbols)]


def random_speech(seed: int, num_sounds: int = 60) -> list[Phoneme]:
    rng = np.random.default_rng(seed)
    sounds = ["AA", "AE", "IY", "UW", "OW", "ER", "P", "B", "M", "T", "S", "F", "L", "W", "K", SILENCE]
    ends_s = np.cumsum(rng.uniform(0.04, 0.16, num_sounds))
    starts_s = np.concatenate([[0.0], ends_s[:-1]])
    return [
        Phoneme(symbol=str(rng.choice(sounds)), start_s=float(start_s), end_s=float(end_s))
        for start_s, end_s in zip(starts_s, ends_s, strict=True)
    ]


def picture_of(phoneme: Phoneme, rate_hz: float = 25.0) -> int:
    return int((phoneme.start_s + phoneme.end_s) / 2 * rate_hz)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate_hz", [25.0, 30.0])
def test_every_closure_is_reached(seed: int, rate_hz: float) -> None:
    phonemes = random_speech(seed)
    num_frames = int(np.ceil(phonemes[-1].end_s * rate_hz))
    loudness = np.random.default_rng(seed).uniform(0.2, 1.0, int(phonemes[-1].end_s * 100) + 1).astype(np.float32)
    lips = lip_motion(phonemes, num_frames, loudness=loudness, rate_hz=rate_hz)
    closures = [phoneme for phoneme in phonemes if phoneme.symbol in CLOSURES]
    assert closures
    for phoneme in closures:
        first, last = int(phoneme.start_s * rate_hz), min(int(phoneme.end_s * rate_hz), num_frames - 1)
        shut = (lips[first : last + 1, PRESS] == 1.0) & (lips[first : last + 1, JAW] < 0.12)
        assert shut.any(), phoneme


def test_silence_is_closed_and_neutral() -> None:
    phonemes = spell("SIL SIL SIL AA SIL SIL SIL SIL SIL", sound_s=0.2)
    lips = lip_motion(phonemes, 45)
    at_rest = np.r_[0:11, 25:45]
    assert np.abs(lips[at_rest]).max() < 0.08
    assert lips[picture_of(phonemes[3]), JAW] > 0.5


def test_a_misheard_vowel_does_not_open_a_pause() -> None:
    lips = lip_motion(spell("AA AA AA AA AA AA"), 15, loudness=np.zeros(60, np.float32))
    assert lips[:, JAW].max() < 0.02


def test_a_missed_vowel_still_opens_the_mouth() -> None:
    lips = lip_motion(spell("SIL SIL SIL SIL SIL SIL"), 15, loudness=np.ones(60, np.float32))
    assert lips[:, JAW].min() > 0.3


def test_louder_opens_wider() -> None:
    phonemes = spell("T AA T AA T AA T")
    soft, loud = (
        lip_motion(phonemes, 18, loudness=np.full(70, level, np.float32))[picture_of(phonemes[3]), JAW] for level in (0.4, 1.0)
    )
    assert loud > 1.3 * soft


def test_syllables_open_and_close() -> None:
    phonemes = spell("SIL B AA B AA B AA B AA SIL", sound_s=0.12)
    opening = lip_motion(phonemes, 30)
    opening = opening[:, JAW] * (1.0 - opening[:, PRESS])
    for phoneme in phonemes:
        if phoneme.symbol == "AA":
            assert opening[picture_of(phoneme)] > 0.4
        if phoneme.symbol == "B":
            assert opening[picture_of(phoneme) - 1 : picture_of(phoneme) + 2].min() < 0.05


def test_places_of_articulation() -> None:
    phonemes = spell("SIL W UW SIL IY IY SIL F AA SIL TH AA L SIL", sound_s=0.12)
    lips = lip_motion(phonemes, 42)
    at = [picture_of(phoneme) for phoneme in phonemes]
    assert lips[at[1], PUCKER] > 0.6
    assert lips[at[2], PUCKER] > 0.6
    assert lips[at[1], WIDE] < -0.2
    assert lips[at[4], WIDE] > 0.4
    assert lips[at[5], PUCKER] < 0.1
    assert lips[at[7], LOWER_IN] > 0.6
    assert lips[at[10], TONGUE] > 0.6
    assert lips[at[12], TONGUE] > 0.4


def test_lips_round_ahead_of_the_sound() -> None:
    phonemes = spell("SIL T T UW SIL", sound_s=0.12)
    lips = lip_motion(phonemes, 15)
    before = int(phonemes[3].start_s * 25) - 1
    assert lips[before, PUCKER] > 0.15


@pytest.mark.parametrize("seed", range(5))
def test_motion_is_in_range_and_smooth(seed: int) -> None:
    phonemes = random_speech(seed)
    lips = lip_motion(phonemes, int(phonemes[-1].end_s * 25))
    assert lips.dtype == np.float32
    assert lips.max() <= 1.0
    assert lips[:, WIDE].min() >= -1.0
    assert np.delete(lips, WIDE, axis=1).min() >= 0.0
    steps = np.abs(np.diff(lips, axis=0)).max(axis=0)
    assert steps[JAW] < 0.55
    assert steps[PUCKER] < 0.5


def test_edges() -> None:
    assert lip_motion([], 0).shape == (0, len(LIPS))
    assert lip_motion([], 3).tolist() == np.zeros((3, len(LIPS))).tolist()
    assert lip_motion(spell("M", sound_s=0.01), 1)[0, PRESS] == 1.0
    assert lip_motion([Phoneme(symbol=SILENCE, start_s=0.0, end_s=0.1)], 2).shape == (2, len(LIPS))
    with pytest.raises(DataError, match="AH0"):
        lip_motion(spell("AH0"), 2)
