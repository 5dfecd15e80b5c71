"""People who exist only as voices: espeak-ng's, in some languages, reading sentences in an order of chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from vivavoz.audio.espeak import VARIANTS, Voice
from vivavoz.data.corpus import FULL_SCALE, Reader
from vivavoz.data.espeak import Utterance, engine, speak
from vivavoz.data.phonemes import SILENCE, Phoneme
from vivavoz.data.shards.clip import Fact
from vivavoz.errors import ConfigError, DataError
from vivavoz.timing import SAMPLE_RATE_HZ

_OWN_SENTENCES: Final = Path(__file__).with_name("sentences.txt")
_FASTEST_LETTERS_PER_S: Final = 30
"""More than anybody says: as many texts are spoken as surely fill the time."""
_PAUSES_S: Final = (0.15, 0.6)
"""Shortest and longest between sentences."""
_NEVER_SILENT: Final = 1e-4
"""Deviation of noise under the speech: espeak-ng's pauses are digital silence, which no microphone gives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Talkers:
    """Everything synthesised readers may say; small, so that tasks can carry it to other machines."""

    version: str
    """Of espeak-ng: another one speaks otherwise."""
    sentences: tuple[tuple[str, tuple[str, ...]], ...]
    """Languages, as espeak-ng calls them, and the sentences of each."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the readers: every language in every variant."""
        return tuple(_name(Voice(language=language, variant=variant)) for language, _ in self.sentences for variant in VARIANTS)

    def reader(self, name: str, *, seed: int, seconds: float) -> Reader:
        """At least `seconds` of one of `names`; speed, pitch, melody and what is said come from the seed.

        Raises:
            ConfigError: this machine has another espeak-ng than `version`.
            DataError: it has none.
        """
        rng = np.random.default_rng([seed, 3])
        language, sentences, variant = next(
            (language, sentences, variant)
            for language, sentences in self.sentences
            for variant in VARIANTS
            if _name(Voice(language=language, variant=variant)) == name
        )
        voice = Voice(
            language=language,
            variant=variant,
            words_per_minute=int(rng.integers(130, 211)),
            pitch=int(rng.integers(30, 71)),
            pitch_range=int(rng.integers(30, 81)),
        )
        texts: list[str] = []
        order: list[str] = []
        while sum(len(text) / _FASTEST_LETTERS_PER_S + _PAUSES_S[0] for text in texts) < seconds:
            order = order or [sentences[index] for index in rng.permutation(len(sentences))]
            texts.append(order.pop())
        spoken, version = speak(texts, voice)
        if version != self.version:
            raise ConfigError(f"this machine has espeak-ng {version}, and the run is with {self.version}; install the same")
        return _joined(name, spoken, voice, version, seconds, rng)


def talkers(languages: Sequence[str], text: Path | None = None) -> Talkers:
    """Readers of some languages, and what they say: the project's own sentences, or those of a file.

    Args:
        languages: as espeak-ng calls them; own sentences are in English (en-us, en-gb, ...), German, French, Spanish, Italian
            and Polish.
        text: one sentence a line, `language|sentence` where there are several languages; blank lines and lines that begin
            with # are passed over.

    Raises:
        ConfigError: a language that espeak-ng does not have, or has no sentences.
        DataError: no espeak-ng, or a file that cannot be read.
    """
    found = engine()
    chosen = tuple(dict.fromkeys(languages))
    unknown = [language for language in chosen if language not in found.languages]
    if unknown or not chosen:
        raise ConfigError(f"espeak-ng has no language {(*unknown, '')[0]!r}; expected one it lists, as en-us: espeak-ng --voices")
    known = _read_sentences(text or _OWN_SENTENCES, chosen)
    sentences = []
    for language in chosen:
        # English sentences do for every English.
        own = known.get(language) or known.get(language.partition("-")[0])
        if not own:
            where = f"{text} has" if text else "there are"
            raise ConfigError(f"{where} no sentences in {language}; give a file with lines {language}|sentence: --text FILE")
        sentences.append((language, tuple(own)))
    return Talkers(version=found.version, sentences=tuple(sentences))


def _name(voice: Voice) -> str:
    return f"espeak-ng {voice.name}"


def _read_sentences(path: Path, languages: Sequence[str]) -> dict[str, list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error}); give a UTF-8 file of one sentence a line") from error
    sentences: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        language, bar, sentence = (part.strip() for part in line.partition("|"))
        if not bar:
            if len(languages) > 1:
                raise DataError(f"line {number} of {path} does not say its language; expected language|sentence")
            language, sentence = languages[0], language
        if not any(letter.isalnum() for letter in sentence):
            raise DataError(f"line {number} of {path} has no sentence; write one, or remove the line")
        sentences.setdefault(language, []).append(sentence)
    return sentences


def _joined(
    name: str, spoken: Sequence[Utterance], voice: Voice, version: str, seconds: float, rng: np.random.Generator
) -> Reader:
    """Utterances with pauses between them, up to the one that makes the time full."""
    pieces, phonemes, texts = [np.zeros(0, np.float32)], list[Phoneme](), []
    num_samples = 0
    for utterance in spoken:
        if num_samples >= seconds * SAMPLE_RATE_HZ:
            break
        pause = np.zeros(int(rng.uniform(*_PAUSES_S) * SAMPLE_RATE_HZ), np.float32)
        start_s = num_samples / SAMPLE_RATE_HZ
        phonemes += [
            Phoneme(symbol=one.symbol, start_s=start_s + one.start_s, end_s=start_s + one.end_s) for one in utterance.phonemes
        ]
        pieces += [utterance.samples, pause]
        num_samples += len(utterance.samples) + len(pause)
        phonemes.append(Phoneme(symbol=SILENCE, start_s=phonemes[-1].end_s, end_s=num_samples / SAMPLE_RATE_HZ))
        texts.append(utterance.text)
    facts: dict[str, Fact] = {
        "speech": f"espeak-ng {version}",
        "voice": voice.name,
        "language": voice.language,
        "words_per_minute": voice.words_per_minute,
        "pitch": voice.pitch,
        "pitch_range": voice.pitch_range,
        "text": " ".join(texts),
    }
    samples = np.concatenate(pieces)
    samples = samples + rng.normal(0, _NEVER_SILENT, len(samples)).astype(np.float32)
    return Reader(
        name=name,
        samples=(np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1) / FULL_SCALE).astype(np.float32),
        phonemes=tuple(phonemes),
        facts=facts if texts else {},
    )
