"""Speech to timed phonemes with pocketsphinx: known words aligned; else words first, then their phones; phones alone where words fail.

Reading words brings a language model to bear on lip shapes: an /m/ that is barely heard is found because the word has one.
A decoder holds one stream: use `recognise` from one thread per process.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vivavoz.errors import DataError
from vivavoz.timing import SAMPLE_RATE_HZ

SILENCE = "SIL"
"""Symbol of pauses, breaths and noises."""

VOWELS = frozenset({"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"})
CONSONANTS = frozenset({"B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG"}) | frozenset(
    {"P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"}
)

_STEP_S = 0.01
_MIN_SAMPLES = SAMPLE_RATE_HZ // 10
_MARGIN_SAMPLES = 4800
_NOISE = 60.0
_FAINTEST = 1e-4
_MIN_AGREEMENT = 0.45
_PUNCTUATION = re.compile(r"[^a-z'0-9-]")

_CLASS_OF = dict.fromkeys(VOWELS, "vowel") | dict.fromkeys(CONSONANTS, "consonant")
_CLASS_OF |= dict.fromkeys(("S", "Z", "SH", "ZH", "CH", "JH", "F", "TH"), "fricative")
_CLASS_OF |= dict.fromkeys(("M", "N", "NG"), "nasal")


@dataclass(frozen=True, kw_only=True, slots=True)
class Phoneme:
    """One speech sound, an ARPAbet symbol without stress mark (`SIL` for a pause), from `start_s` to `end_s`."""

    symbol: str
    start_s: float
    end_s: float


def recognise(samples: npt.NDArray[np.float32]) -> list[Phoneme]:
    """Phonemes of English speech, in order, without gaps or overlaps, from 0 to the sound's end.

    `samples`: float32 (N,), 16 kHz, mono, [-1, 1]; best an utterance of a few seconds up to a minute. The same sound always
    gives the same list. Raises `DataError` where pocketsphinx or its English model is missing, or the sound has another shape.
    """
    if samples.ndim != 1:
        raise DataError(f"got sound of shape {samples.shape}, expected (N,): mix the channels to mono first")
    duration_s = len(samples) / SAMPLE_RATE_HZ
    peak = float(np.abs(samples).max(initial=0.0))
    if len(samples) < _MIN_SAMPLES or peak < _FAINTEST:
        return [Phoneme(symbol=SILENCE, start_s=0.0, end_s=duration_s)] if len(samples) else []
    pcm = _as_pcm(samples, peak)
    heard = _decode_phones(pcm)
    read = _decode_words(pcm)
    chosen = read if read and _agreement(read, heard) >= _MIN_AGREEMENT else heard
    return _tile(chosen, duration_s)


def align(samples: npt.NDArray[np.float32], words: Sequence[str]) -> list[Phoneme]:
    """Phonemes of English speech whose words are known, in order, without gaps or overlaps, from 0 to the sound's end.

    `samples` as for `recognise`; `words` as they are said, in any case, punctuation apart. Pauses between them are found.
    Raises `DataError` for a word that is not in the pronunciation dictionary, and where the words do not fit the sound.
    """
    if samples.ndim != 1:
        raise DataError(f"got sound of shape {samples.shape}, expected (N,): mix the channels to mono first")
    spoken = [word for word in (_PUNCTUATION.sub("", word.lower()) for word in words) if word]
    decoder = _alignment_decoder()
    unknown = next((word for word in spoken if decoder.lookup_word(word) is None), None)
    if unknown is not None:
        raise DataError(f"got the word {unknown!r}, expected words of the pronunciation dictionary: let the sounds be recognised")
    duration_s = len(samples) / SAMPLE_RATE_HZ
    peak = float(np.abs(samples).max(initial=0.0))
    try:
        if not spoken or peak < _FAINTEST or len(samples) < _MIN_SAMPLES:
            raise RuntimeError("nothing to align")
        pcm = _with_silence(_as_pcm(samples, peak))
        decoder.set_align_text(" ".join(spoken))
        _run(decoder, pcm)
        decoder.set_alignment()
        _run(decoder, pcm)
        found = _aligned_phones(decoder.get_alignment(), _MARGIN_SAMPLES / SAMPLE_RATE_HZ)
    except RuntimeError as error:
        text = " ".join(spoken)
        raise DataError(f"got {duration_s:.1f} s of sound that {text[:60]!r} does not fit; expected these words to be said") from error
    return _tile(found, duration_s)


def _sphinx() -> Any:
    try:
        import pocketsphinx
    except ImportError as error:
        raise DataError("got no pocketsphinx, expected it for phonemes: pip install 'vivavoz[data]'") from error
    return pocketsphinx


@functools.cache
def _phone_decoder() -> Any:
    sphinx = _sphinx()
    try:
        return sphinx.Decoder(
            allphone=sphinx.get_model_path("en-us/en-us-phone.lm.bin"),
            lm=None,
            dict=None,
            cmn="batch",
            lw=2.0,
            beam=1e-20,
            pbeam=1e-20,
            loglevel="FATAL",
        )
    except RuntimeError as error:
        raise DataError("got no English phone model, expected pocketsphinx to ship one: install pocketsphinx again") from error


@functools.cache
def _word_decoder() -> Any:
    # One pass with few states at a time: four times as fast as the defaults, and hardly a word is lost.
    sphinx = _sphinx()
    try:
        return sphinx.Decoder(cmn="batch", fwdflat=False, maxhmmpf=3000, maxwpf=20, topn=2, loglevel="FATAL")
    except RuntimeError as error:
        raise DataError("got no English word model, expected pocketsphinx to ship one: install pocketsphinx again") from error


@functools.cache
def _alignment_decoder() -> Any:
    # Wider beams than the default ones make the second pass, over phones, fail.
    sphinx = _sphinx()
    try:
        return sphinx.Decoder(cmn="batch", loglevel="FATAL")
    except RuntimeError as error:
        raise DataError("got no English word model, expected pocketsphinx to ship one: install pocketsphinx again") from error


def _as_pcm(samples: npt.NDArray[np.float32], peak: float) -> bytes:
    return np.round(samples * (29_000 / peak)).astype("<i2").tobytes()


def _with_silence(pcm: bytes) -> bytes:
    """The sound between two spells of faint noise: aligning phones fails where words begin with the sound's first frame."""
    noise = np.random.default_rng(0).normal(0, _NOISE, _MARGIN_SAMPLES).astype("<i2").tobytes()
    return noise + pcm + noise


def _run(decoder: Any, pcm: bytes) -> None:
    # Without this the level of the utterance before would colour this one.
    decoder.reinit_feat()
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def _decode_phones(pcm: bytes) -> list[Phoneme]:
    decoder = _phone_decoder()
    _run(decoder, pcm)
    return _phonemes((segment.word, segment.start_frame, segment.end_frame + 1) for segment in decoder.seg() or ())


def _decode_words(pcm: bytes) -> list[Phoneme]:
    """Phones of the best words; empty where none were found."""
    decoder = _word_decoder()
    decoder.activate_search()
    _run(decoder, pcm)
    if decoder.hyp() is None or not decoder.hyp().hypstr.strip():
        return []
    try:
        decoder.set_alignment()
        _run(decoder, pcm)
        return _aligned_phones(decoder.get_alignment())
    except RuntimeError:
        return []


def _aligned_phones(alignment: Any, margin_s: float = 0.0) -> list[Phoneme]:
    # Entries die with their parents: read each before the iterator moves on.
    found = _phonemes((phone.name, phone.start, phone.start + phone.duration) for word in alignment or () for phone in word)
    return [replace(phoneme, start_s=phoneme.start_s - margin_s, end_s=phoneme.end_s - margin_s) for phoneme in found]


def _phonemes(segments: Iterable[tuple[str, int, int]]) -> list[Phoneme]:
    known = VOWELS | CONSONANTS
    return [
        Phoneme(symbol=symbol if symbol in known else SILENCE, start_s=start * _STEP_S, end_s=end * _STEP_S)
        for symbol, start, end in segments
    ]


def _agreement(first: Sequence[Phoneme], second: Sequence[Phoneme]) -> float:
    """Share of the time in which both lists are in the same broad class of sounds, pauses left out."""
    steps = round(max((phoneme.end_s for phoneme in (*first, *second)), default=0.0) / _STEP_S)
    classes = np.full((2, steps), "pause", dtype="<U9")
    for row, phonemes in enumerate((first, second)):
        for phoneme in phonemes:
            classes[row, round(phoneme.start_s / _STEP_S) : round(phoneme.end_s / _STEP_S)] = _CLASS_OF.get(
                phoneme.symbol, "pause"
            )
    spoken = (classes != "pause").any(axis=0)
    return float((classes[0] == classes[1])[spoken].mean()) if spoken.any() else 0.0


def _tile(phonemes: Sequence[Phoneme], duration_s: float) -> list[Phoneme]:
    """The same sounds without gaps or overlaps over [0, duration_s]; neighbouring pauses become one."""
    tiled: list[Phoneme] = []
    at_s = 0.0
    for phoneme in [*phonemes, Phoneme(symbol=SILENCE, start_s=duration_s, end_s=duration_s)]:
        start_s, end_s = max(phoneme.start_s, at_s), min(phoneme.end_s, duration_s)
        pieces = [(SILENCE, at_s, start_s)] if start_s > at_s else []
        pieces += [(phoneme.symbol, start_s, end_s)] if end_s > start_s else []
        for symbol, piece_start_s, piece_end_s in pieces:
            if tiled and symbol == SILENCE == tiled[-1].symbol:
                piece_start_s = tiled.pop().start_s
            tiled.append(Phoneme(symbol=symbol, start_s=piece_start_s, end_s=piece_end_s))
            at_s = piece_end_s
    return tiled
