import sys

import numpy as np
import pytest

from vivavoz.data import phonemes
from vivavoz.data.phonemes import CONSONANTS, SILENCE, VOWELS, Phoneme, align, recognise
from vivavoz.errors import DataError

RATE_HZ = 16_000


def two_vowels() -> np.ndarray:
    """Half a second of silence, a buzz through the resonances of /ɑ i ɑ i/, silence again."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(0)
    hush = rng.standard_normal(RATE_HZ // 2) * 1e-3
    pieces = [hush]
    for resonances_hz in [(730, 1090, 2440), (270, 2290, 3010)] * 2:
        buzz = rng.standard_normal(RATE_HZ // 5) * 0.003
        buzz[:: RATE_HZ // 120] += 1.0
        for resonance_hz in resonances_hz:
            pole = 0.985 * np.exp(2j * np.pi * resonance_hz / RATE_HZ)
            buzz = lfilter([1.0], [1.0, -2 * pole.real, abs(pole) ** 2], buzz)
        pieces.append(buzz / np.abs(buzz).max() * 0.5 * np.sqrt(np.hanning(len(buzz))))
    sound = np.concatenate([*pieces, hush])
    return (sound + rng.standard_normal(len(sound)) * 1e-3).astype(np.float32)


def tiles(found: list[Phoneme], duration_s: float) -> bool:
    edges_s = [found[0].start_s] + [phoneme.end_s for phoneme in found]
    starts_s = [phoneme.start_s for phoneme in found]
    return edges_s[0] == 0.0 and edges_s[:-1] == starts_s and edges_s[-1] == duration_s


def test_recognised_sounds_cover_the_time() -> None:
    pytest.importorskip("pocketsphinx")
    samples = two_vowels()
    found = recognise(samples)
    assert tiles(found, len(samples) / RATE_HZ)
    assert {phoneme.symbol for phoneme in found} <= VOWELS | CONSONANTS | {SILENCE}
    assert found[0].symbol == SILENCE
    assert [phoneme.symbol for phoneme in found if phoneme.symbol in VOWELS] == ["AA", "IY", "AA", "IY"]
    assert recognise(samples) == found


def test_silence_and_scraps_need_no_recogniser() -> None:
    assert recognise(np.zeros(0, np.float32)) == []
    assert recognise(np.zeros(RATE_HZ, np.float32)) == [Phoneme(symbol=SILENCE, start_s=0.0, end_s=1.0)]
    assert recognise(np.ones(160, np.float32)) == [Phoneme(symbol=SILENCE, start_s=0.0, end_s=0.01)]


def test_stereo_is_refused() -> None:
    with pytest.raises(DataError, match="mono"):
        recognise(np.zeros((2, RATE_HZ), np.float32))


def test_a_missing_recogniser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    phonemes._phone_decoder.cache_clear()
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(DataError, match="pip install"):
        recognise(two_vowels())


def spell(text: str) -> list[Phoneme]:
    return [Phoneme(symbol=symbol, start_s=i * 0.1, end_s=(i + 1) * 0.1) for i, symbol in enumerate(text.split())]


def test_words_that_disagree_with_the_sound_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, alike, unlike = "SIL S AA M IY SIL", "SIL SH AO N IY SIL", "AA IY S AA S AA"
    samples = np.full(int(0.6 * RATE_HZ), 0.1, np.float32)
    monkeypatch.setattr(phonemes, "_decode_phones", lambda pcm: spell(heard))
    for read, expected in ((unlike, heard), (alike, alike), ("", heard)):
        monkeypatch.setattr(phonemes, "_decode_words", lambda pcm, read=read: spell(read))
        assert [phoneme.symbol for phoneme in recognise(samples)] == expected.split()


def test_gaps_are_pauses_and_pauses_are_one() -> None:
    given = [
        Phoneme(symbol="AA", start_s=0.1, end_s=0.2),
        Phoneme(symbol=SILENCE, start_s=0.25, end_s=0.3),
        Phoneme(symbol=SILENCE, start_s=0.3, end_s=0.4),
        Phoneme(symbol="M", start_s=0.4, end_s=0.9),
    ]
    tiled = phonemes._tile(given, 0.8)
    assert [phoneme.symbol for phoneme in tiled] == [SILENCE, "AA", SILENCE, "M"]
    assert tiles(tiled, 0.8)


def test_alignment_refuses_words_it_does_not_know_and_sound_without_any() -> None:
    with pytest.raises(DataError, match="'brillig'"):
        align(np.zeros(16_000, np.float32), ["Twas", "brillig"])
    with pytest.raises(DataError, match="does not fit"):
        align(np.zeros(16_000, np.float32), ["yes"])
