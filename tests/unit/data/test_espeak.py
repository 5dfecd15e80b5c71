import ctypes
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.espeak_library import needs_espeak
from tests.unit.data.test_phonemes import tiles
from vivavoz.audio import espeak_process
from vivavoz.audio.espeak import Voice
from vivavoz.data.espeak import engine, speak, timed_phonemes
from vivavoz.data.ipa import arpabet
from vivavoz.data.phonemes import CONSONANTS, SILENCE, VOWELS
from vivavoz.data.talkers import talkers
from vivavoz.data.visemes import CLOSURES, LIPS, lip_motion
from vivavoz.errors import ConfigError, DataError

RATE_HZ = 22_050
LANGUAGES = ("en-us", "en-gb", "de", "fr-fr", "es", "it", "pl")


def hum(length_s, amplitude):
    noise = np.random.default_rng(0).uniform(0.5, 1.0, round(length_s * RATE_HZ))
    return (amplitude * noise * np.where(np.arange(len(noise)) % 2, 1, -1)).astype(np.int16)


def spelled(found):
    return [(one.symbol, round(one.start_s, 3)) for one in found]


def level_db(samples, start_s, end_s):
    piece = samples[round(start_s * 16_000) : round(end_s * 16_000)]
    return 10 * np.log10(np.mean(piece.astype(np.float64) ** 2) + 1e-12)


def test_the_quiet_before_a_burst_belongs_to_the_stop():
    sound = np.concatenate([hum(0.1, 9000), np.zeros(1323, np.int16), hum(0.04, 1500), hum(0.1, 9000)])
    found = timed_phonemes([("a", 0), ("p", 3528), ("i", 4410)], sound, RATE_HZ, len(sound) / RATE_HZ)
    assert spelled(found) == [("AA", 0.0), ("P", 0.1), ("IY", 0.2)]


def test_long_pauses_are_silence_and_short_ones_a_closure():
    sound = np.concatenate([hum(0.1, 9000), np.zeros(round(0.25 * RATE_HZ), np.int16), hum(0.1, 9000)])
    events = [("a", 0), ("", 2205), ("", 2205 + 4410), ("b", 2205 + 5512), ("", 9922)]
    found = timed_phonemes(events, sound, RATE_HZ, 0.45)
    assert spelled(found) == [("AA", 0.0), (SILENCE, 0.1), ("B", 0.3)]
    assert found[-1].end_s == 0.45


def test_a_nasal_ends_where_its_murmur_opens():
    sound = np.concatenate([hum(0.05, 300), hum(0.15, 9000)])
    found = timed_phonemes([("m", 0), ("a", round(0.08 * RATE_HZ))], sound, RATE_HZ, 0.2)
    assert [one.symbol for one in found] == ["M", "AA"]
    assert found[1].start_s == pytest.approx(0.05, abs=0.006)


def test_an_affricate_shares_its_time_and_unknown_sounds_leave_the_lips_alone():
    found = timed_phonemes([("ts", 0), ("§", 2205)], hum(0.2, 9000), RATE_HZ, 0.2)
    assert spelled(found) == [("T", 0.0), ("S", 0.05), ("HH", 0.1)]


def test_a_sound_without_a_name_that_is_heard_is_part_of_the_one_before():
    assert spelled(timed_phonemes([("a", 0), ("", 2205)], hum(0.2, 9000), RATE_HZ, 0.2)) == [("AA", 0.0)]


def test_no_library_is_told_with_what_to_install(monkeypatch):
    gone = subprocess.CompletedProcess([], espeak_process.NO_LIBRARY, b"", b"")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: gone)
    with pytest.raises(DataError, match="apt install espeak-ng"):
        engine()


def test_what_the_program_dies_of_is_told(monkeypatch):
    dead = subprocess.CompletedProcess([], -11, b"", b"")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: dead)
    with pytest.raises(DataError, match="status -11"):
        speak(["Hello."], Voice(language="en-us"))


@needs_espeak
@pytest.mark.parametrize("language", LANGUAGES)
def test_sounds_cover_the_time_pauses_are_quiet_and_stops_quieter_than_vowels(language):
    ((_, sentences),) = talkers([language]).sentences
    spoken, _ = speak(sentences, Voice(language=language, variant="f2"))
    stops, vowels = [], []
    for one in spoken:
        assert tiles(one.phonemes, len(one.samples) / 16_000)
        assert {sound.symbol for sound in one.phonemes} <= VOWELS | CONSONANTS | {SILENCE}
        assert one.samples.dtype == np.float32
        assert 0.1 < np.abs(one.samples).max() <= 1.0
        loudness_db = level_db(one.samples, 0, len(one.samples) / 16_000)
        for sound in one.phonemes:
            if sound.end_s - sound.start_s < 0.01:
                continue
            relative_db = level_db(one.samples, sound.start_s, sound.end_s) - loudness_db
            assert sound.symbol != SILENCE or relative_db < -25
            stops += [relative_db] if sound.symbol in "PTK" else []
            vowels += [relative_db] if sound.symbol == "AA" else []
    assert len(stops) > 20
    assert np.median(stops) < np.median(vowels) - 12


@needs_espeak
@pytest.mark.parametrize("variant", ["", "m3", "f2"])
def test_lips_meet_where_the_sound_is_shut(variant):
    (one,), _ = speak(["Papa, a big apple, a mummy."], Voice(language="en-us", variant=variant))
    shut = [sound for sound in one.phonemes if sound.symbol in CLOSURES]
    assert [sound.symbol for sound in shut] == list("PPBPMM")
    for sound in shut:
        assert 0.03 < sound.end_s - sound.start_s < 0.2
        after = next(other for other in one.phonemes if other.start_s >= sound.end_s)
        opened_db = level_db(one.samples, after.start_s, min(after.end_s, after.start_s + 0.05))
        # A p is silent until its burst; the lips of b and m are shut to near the end.
        quiet_s = 0.5 if sound.symbol == "P" else 0.9
        middle_s = sound.start_s + quiet_s * (sound.end_s - sound.start_s)
        assert level_db(one.samples, sound.start_s, middle_s) < opened_db - (20 if sound.symbol == "P" else 3)
    lips = lip_motion(one.phonemes, int(len(one.samples) / 640))
    for sound in shut:
        pictures = slice(int(sound.start_s * 25), int(sound.end_s * 25) + 1)
        assert lips[pictures, LIPS.index("press")].max() == 1.0


@needs_espeak
def test_the_same_words_sound_the_same_whatever_was_said_before():
    voice = Voice(language="en-gb", variant="f5", words_per_minute=140, pitch=60)
    (first, second), _ = speak(["My name is Bob.", "And mine is Pam."], voice)
    speak(["Etwas ganz anderes."], Voice(language="de", variant="m2"))
    (again, _), version = speak(["My name is Bob.", "And mine is Pam."], voice)
    assert np.array_equal(first.samples, again.samples)
    assert first.phonemes == again.phonemes
    assert first.phonemes != second.phonemes
    assert version == engine().version


@needs_espeak
def test_speed_and_pitch_are_heeded():
    text = ["Over the mountains and far away."]
    (slow,), _ = speak(text, Voice(language="en-us", words_per_minute=120))
    (fast,), _ = speak(text, Voice(language="en-us", words_per_minute=220))
    (high,), _ = speak(text, Voice(language="en-us", words_per_minute=120, pitch=90))
    assert len(fast.samples) < 0.7 * len(slow.samples)
    assert len(high.samples) == pytest.approx(len(slow.samples), rel=0.1)
    assert not np.array_equal(high.samples[: len(slow.samples)], slow.samples[: len(high.samples)])


@needs_espeak
def test_refuses_unknown_voices_and_texts_of_nothing():
    with pytest.raises(ConfigError, match="no voice 'xx-yy"):
        speak(["Hello."], Voice(language="xx-yy"))
    with pytest.raises(ConfigError, match="variant is 'nobody'"):
        Voice(language="en-us", variant="nobody")
    with pytest.raises(DataError, match="nothing to say"):
        speak(["..."], Voice(language="en-us"))


def inventory(language):
    """Names of all sounds in the phoneme table of a language, read from espeak-ng's own data."""
    library = ctypes.CDLL("libespeak-ng.so.1")
    library.espeak_Info.restype = ctypes.c_char_p
    folder = ctypes.c_char_p()
    library.espeak_Initialize(2, 0, None, 0x8000)
    library.espeak_Info(ctypes.byref(folder))
    with open(f"{folder.value.decode()}/phontab", "rb") as file:
        data = file.read()
    tables, at = [], 4
    for _ in range(data[0]):
        count, parent, name = data[at], data[at + 1], data[at + 4 : at + 36].split(b"\0")[0].decode()
        rows = [struct.unpack_from("4s6xBB4x", data, at + 36 + 16 * index) for index in range(count)]
        tables.append((name, parent, rows))
        at += 36 + 16 * count
    sounds, index = {}, next(index for index, table in enumerate(tables, 1) if table[0] == language)
    while index:
        _, parent, rows = tables[index - 1]
        for name, code, kind in rows:
            sounds.setdefault(code, (name.split(b"\0")[0].decode(), kind))
        index = parent
    return [name for name, kind in sounds.values() if 2 <= kind <= 8]  # vowels to nasals


@needs_espeak
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sound_of_a_language_is_known(language):
    table = {"en-gb": "en", "fr-fr": "fr"}.get(language, language)
    # In double brackets espeak-ng reads names of sounds; 0x100 more among the flags lets it.
    folder = str(Path(espeak_process.__file__).parent)
    program = f"import sys; sys.path.insert(0, {folder!r}); import espeak_process as p; p._UTF8 = 0x101; sys.exit(p.main())"
    names = inventory(table)
    assert len(names) > 80
    order = {"language": language, "variant": "", "words_per_minute": 300, "pitch": 50, "pitch_range": 50}
    order["texts"] = [f"[[{name}]]" for name in names]
    done = subprocess.run([sys.executable, "-c", program], input=json.dumps(order).encode(), capture_output=True, check=True)
    told = json.loads(done.stdout.partition(b"\n")[0])
    heard = {name for one in told["spoken"] for name, _ in one["events"] if name}
    assert len(heard) > 60
    assert {name for name in heard if not arpabet(name)} <= {"??", "?"}  # signs of the tables, not sounds


def test_the_program_needs_no_more_than_the_standard_library():
    code = "import sys; before = set(sys.modules); import runpy; runpy.run_path(sys.argv[1]); print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, espeak_process.__file__], capture_output=True, text=True, check=True, timeout=60
    )
    assert not {name.split(".")[0] for name in done.stdout.split()} & {"numpy", "vivavoz", "torch"}
