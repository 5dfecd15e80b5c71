"""Text to speech by the system's espeak-ng, in a process of its own.

espeak-ng (GPL-3) is no part of this package: the system's library is loaded at run time.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vivavoz.audio import espeak_process
from vivavoz.errors import ConfigError, DataError

VARIANTS: Final = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")
"""espeak-ng's plain voices of men and women."""

_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Voice:
    """Who speaks, and how."""

    language: str
    """As espeak-ng calls it: `en-us`, `en-gb`, `de`, `fr-fr`, ..."""
    variant: str = ""
    """One of `VARIANTS`; empty for the language's own voice."""
    words_per_minute: int = 175
    """80 to 450."""
    pitch: int = 50
    """0 to 99; 50 is the voice's own."""
    pitch_range: int = 50
    """0 (monotone) to 99."""

    def __post_init__(self) -> None:
        """Refuse a variant that espeak-ng would pass over without a word."""
        if self.variant not in ("", *VARIANTS):
            raise ConfigError(f"variant is {self.variant!r}; expected one of {', '.join(VARIANTS)}, or none")

    @property
    def name(self) -> str:
        """As espeak-ng writes it: language and variant."""
        return f"{self.language}+{self.variant}" if self.variant else self.language


def ask(voice: Voice, texts: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    """Have the texts spoken; gives what is told of them and the samples of all, 16-bit.

    What is told: `version`, `rate_hz`, `languages`, and of every text in `spoken` its `num_samples` and `events`.

    Raises:
        ConfigError: a language that espeak-ng does not have.
        DataError: there is no espeak-ng, or it failed.
    """
    order = {
        "language": voice.language,
        "variant": voice.variant,
        "words_per_minute": voice.words_per_minute,
        "pitch": voice.pitch,
        "pitch_range": voice.pitch_range,
        "texts": list(texts),
    }
    program = [sys.executable, "-I", str(Path(espeak_process.__file__))]
    try:
        done = subprocess.run(program, input=json.dumps(order).encode(), capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"espeak-ng took over {_TIMEOUT_S} s for {voice.name}; give shorter texts") from error
    if done.returncode == espeak_process.NO_LIBRARY:
        raise DataError("got no libespeak-ng, expected it for speech from text: apt install espeak-ng") from ImportError(
            "libespeak-ng"
        )
    if done.returncode == espeak_process.NO_VOICE:
        raise ConfigError(f"espeak-ng has no voice {voice.name!r}; expected a language it lists: espeak-ng --voices")
    if done.returncode != 0:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise DataError(f"espeak-ng failed for {voice.name} ({reason}); try other texts")
    line, _, pcm = done.stdout.partition(b"\n")
    return json.loads(line), pcm
