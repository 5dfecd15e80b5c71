"""A program that speaks texts with libespeak-ng and prints what was heard and when: one JSON line, then 16-bit samples.

The library keeps state from one text to the next (echo, gain, random numbers) and cannot be relied on to end. So it lives in a
process of its own, started afresh each time: the same texts then always sound the same, and nothing it does can take its
caller along. Only the standard library is imported, which keeps the start short. `vivavoz.audio.espeak` is its caller.

On stdin: `{"language": ..., "variant": ..., "words_per_minute": ..., "pitch": ..., "pitch_range": ..., "texts": [...]}`; without
texts the version and languages are all that is told.
"""

import ctypes
import ctypes.util
import json
import sys
from typing import Any, Final

NO_LIBRARY: Final = 3
"""Exit status where there is no libespeak-ng, or it has no voices."""
NO_VOICE: Final = 4
"""Exit status where it does not know the language, or lacks the files of the variant."""

_SYNCHRONOUS = 2
_OPTIONS = 0x8003
"""Events for phonemes (1), named in IPA (2); never exit the process (0x8000)."""
_UTF8 = 1
_END, _PHONEME = 0, 7
_RATE, _PITCH, _RANGE = 1, 3, 4
_HARDLY_ANY_ECHO = "\x011H "
"""Some variants sound as in a room; that fills closures and pauses. A command within the text sets it to its least."""


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def main() -> int:
    """Do what stdin asks for; the exit status tells what is missing."""
    order = json.load(sys.stdin)
    library = _library()
    if library is None:
        return NO_LIBRARY
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    library.espeak_Info.restype = ctypes.c_char_p
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _OPTIONS)
    if rate_hz <= 0:
        return NO_LIBRARY
    voices = _voices(library)
    told: dict[str, Any] = {
        "version": library.espeak_Info(None).decode().split()[0],
        "rate_hz": rate_hz,
        "languages": sorted(voices),
        "spoken": [],
    }
    pcm = b""
    if order["texts"]:
        name = voices.get(order["language"], "") + (f"+{order['variant']}" if order["variant"] else "")
        if order["language"] not in voices or library.espeak_SetVoiceByName(name.encode()) != 0:
            return NO_VOICE
        for parameter, key in ((_RATE, "words_per_minute"), (_PITCH, "pitch"), (_RANGE, "pitch_range")):
            library.espeak_SetParameter(parameter, order[key], 0)
    for text in order["texts"]:
        sound, events = _speak(library, text)
        told["spoken"].append({"num_samples": len(sound) // 2, "events": events})
        pcm += sound
    sys.stdout.buffer.write(json.dumps(told).encode() + b"\n" + pcm)
    return 0


def _library() -> Any:
    try:
        return ctypes.CDLL("libespeak-ng.so.1")
    except OSError:  # another system's name for it; slow to find
        found = ctypes.util.find_library("espeak-ng")
        return ctypes.CDLL(found) if found else None


def _voices(library: Any) -> dict[str, str]:
    """The file of the best voice of every language."""
    best: dict[str, tuple[int, str]] = {}
    listed = library.espeak_ListVoices(None)
    index = 0
    while listed[index]:
        voice = listed[index].contents
        index += 1
        identifier = voice.identifier.decode()
        if identifier.startswith(("mb/", "!v/")):  # MBROLA's voices need data of their own; variants are no languages
            continue
        # A list of: a byte of priority (small is good), a string, a zero; it ends with a priority of zero.
        at = voice.languages
        while priority := ctypes.string_at(at, 1)[0]:
            language = ctypes.string_at(at + 1)
            at += len(language) + 2
            best[language.decode()] = min(best.get(language.decode(), (256, "")), (priority, identifier))
    return {language: identifier for language, (_, identifier) in best.items()}


def _speak(library: Any, text: str) -> tuple[bytes, list[tuple[str, int]]]:
    """Samples, and the name (IPA; empty for pauses) and first sample of every sound."""
    pcm = bytearray()
    events: list[tuple[str, int]] = []

    def hear(samples: Any, num_samples: int, told: Any) -> int:
        index = 0
        while told[index].type != _END:
            if told[index].type == _PHONEME:
                # The name is cut after eight bytes, maybe within a letter.
                events.append((told[index].id.string.decode(errors="ignore"), told[index].sample))
            index += 1
        if samples:
            pcm.extend(ctypes.string_at(samples, 2 * num_samples))
        return 0

    callback = _Callback(hear)
    library.espeak_SetSynthCallback(callback)
    said = (_HARDLY_ANY_ECHO + "".join(letter for letter in text if letter.isprintable())).encode()
    library.espeak_Synth(said, ctypes.c_size_t(len(said) + 1), 0, 1, 0, _UTF8, None, None)
    return bytes(pcm), events


if __name__ == "__main__":
    sys.exit(main())
