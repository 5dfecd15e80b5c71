"""Speech made by espeak-ng, with the time of every sound to the sample: 16 kHz samples and phonemes in many languages.

espeak-ng (GPL-3) is no part of this package: the system's library is loaded at run time, in a process of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vivavoz.audio.espeak import Voice, ask
from vivavoz.audio.resample import StreamingResampler
from vivavoz.data.ipa import NEUTRAL, arpabet
from vivavoz.data.phonemes import SILENCE, VOWELS, Phoneme
from vivavoz.errors import DataError
from vivavoz.timing import SAMPLE_RATE_HZ

_SHORT_PAUSE_S = 0.08
"""Pauses up to this long are part of the sound that follows: a closure, or the onset of a vowel."""
_QUIET = 0.01
"""Share of the loudest sample under which nothing is heard."""
_MIN_QUIET_S = 0.005
_RELEASE_WINDOW_S = 0.01
_RELEASE_RATIO = 4.0
_NASALS = frozenset({"M", "N", "NG"})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Utterance:
    """A text, spoken."""

    text: str
    samples: NDArray[np.float32]
    """(N,) mono, 16 kHz, in [-1, 1]."""
    phonemes: tuple[Phoneme, ...]
    """In order, without gaps or overlaps, from 0 to the sound's end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """The espeak-ng of this machine."""

    version: str
    languages: frozenset[str] = field(repr=False)


def engine() -> Engine:
    """Which espeak-ng there is. Raises `DataError` where there is none."""
    told, _ = ask(Voice(language=""), ())
    return Engine(version=told["version"], languages=frozenset(told["languages"]))


def speak(texts: Sequence[str], voice: Voice) -> tuple[list[Utterance], str]:
    """Speak texts, one after the other, each without silence around it; also gives espeak-ng's version.

    The same texts and voice give the same samples and phonemes with the same version of espeak-ng.

    Raises:
        ConfigError: a language that espeak-ng does not have.
        DataError: there is no espeak-ng, it failed, or found nothing to say in a text.
    """
    told, pcm = ask(voice, texts)
    samples = np.frombuffer(pcm, "<i2")
    ends = np.cumsum([0, *(one["num_samples"] for one in told["spoken"])])
    spoken = []
    for text, one, (start, end) in zip(texts, told["spoken"], pairwise(ends), strict=True):
        if not any(arpabet(name) for name, _ in one["events"]):
            raise DataError(f"espeak-ng finds nothing to say in {text[:60]!r}; give a sentence in {voice.language}")
        resampler = StreamingResampler(told["rate_hz"])
        sound = np.concatenate([resampler.push(samples[start:end]), resampler.flush()])
        phonemes = timed_phonemes(one["events"], samples[start:end], told["rate_hz"], len(sound) / SAMPLE_RATE_HZ)
        spoken.append(Utterance(text=text, samples=np.clip(sound, -1.0, 1.0), phonemes=tuple(phonemes)))
    return spoken, told["version"]


@dataclass(slots=True)
class _Span:
    """A sound from sample `start` to before sample `end`; no symbols: a pause."""

    symbols: tuple[str, ...]
    start: int
    end: int


def timed_phonemes(
    events: Sequence[tuple[str, int]], samples: NDArray[np.int16], rate_hz: int, duration_s: float
) -> list[Phoneme]:
    """Phonemes over [0, `duration_s`] from espeak-ng's events: names in IPA (empty for a pause) and first samples.

    The library tells of a stop at its burst, after the pause that is its closure, and of a vowel after a nasal when the lips have
    parted already. Both are mended by the sound itself: the quiet before a sound becomes its own, and a nasal ends where its
    murmur bursts open.
    """
    loud = np.abs(samples.astype(np.int32)) > _QUIET * np.abs(samples.astype(np.int32)).max(initial=1)
    spans = _spans(events, loud, len(samples))
    for span, after in pairwise(spans):
        if span.symbols:
            heard = np.flatnonzero(loud[span.start : span.end])
            quiet_from = span.start + int(heard[-1]) + 1 if len(heard) else span.end
            if span.end - quiet_from >= _MIN_QUIET_S * rate_hz:
                span.end = after.start = quiet_from
    spans = [span for span in spans if span.end > span.start]
    for span, after in pairwise(spans):
        if not span.symbols and after.symbols and span.end - span.start <= _SHORT_PAUSE_S * rate_hz:
            span.end = after.start = span.start
        elif span.symbols and span.symbols[-1] in _NASALS and after.symbols and after.symbols[0] in VOWELS:
            span.end = after.start = _release(samples, span, rate_hz)
    return _phonemes(spans, rate_hz, duration_s)


def _spans(events: Sequence[tuple[str, int]], loud: NDArray[np.bool_], num_samples: int) -> list[_Span]:
    """The events with their ends. One without a name is a pause if it is quiet, and else part of the sound before it."""
    spans = [_Span((), 0, 0)]
    for name, start in events:
        at = min(max(start, spans[-1].start), num_samples)
        spans[-1].end = at
        spans.append(_Span((arpabet(name) or (NEUTRAL,)) if name else (), at, at))
    spans[-1].end = num_samples
    joined = spans[:1]
    for span in spans[1:]:
        heard = np.count_nonzero(loud[span.start : span.end])
        if not span.symbols and joined[-1].symbols and heard > (span.end - span.start) / 2:
            joined[-1].end = span.end
        else:
            joined.append(span)
    return joined


def _release(samples: NDArray[np.int16], span: _Span, rate_hz: int) -> int:
    """Where a nasal's murmur opens into the vowel: the steepest rise of high frequencies in its later half; else its end."""
    window = round(_RELEASE_WINDOW_S * rate_hz)
    # The difference of neighbours favours high frequencies, of which a murmur has little.
    power = np.cumsum(np.diff(samples[span.start : span.end + window].astype(np.float64), prepend=0.0) ** 2)
    middles = np.arange(max(window, (span.end - span.start) // 2), len(power) - window)
    if not len(middles):
        return span.end
    before, after = power[middles] - power[middles - window], power[middles + window] - power[middles]
    rise = after / (before + 1.0)
    best = int(np.argmax(rise))
    return min(span.start + int(middles[best]), span.end) if rise[best] > _RELEASE_RATIO else span.end


def _phonemes(spans: Sequence[_Span], rate_hz: int, duration_s: float) -> list[Phoneme]:
    """Spans as phonemes: several symbols share their time evenly, neighbouring pauses are one."""
    cuts: list[tuple[str, float]] = []
    for span in spans:
        symbols = span.symbols or (SILENCE,)
        length_s = (span.end - span.start) / rate_hz / len(symbols)
        for index, symbol in enumerate(symbols):
            start_s = span.start / rate_hz + index * length_s
            if span.end > span.start and start_s < duration_s and not (cuts and symbol == SILENCE == cuts[-1][0]):
                cuts.append((symbol, start_s))
    ends_s = [start_s for _, start_s in cuts[1:]] + [duration_s]
    return [Phoneme(symbol=symbol, start_s=start_s, end_s=end_s) for (symbol, start_s), end_s in zip(cuts, ends_s, strict=True)]
