import tarfile
from dataclasses import replace

import numpy as np
import pytest
import skimage.data

from tests.unit.data.espeak_library import needs_espeak
from tests.unit.data.test_phonemes import tiles
from tests.unit.rig.test_rig import face_landmarks
from vivavoz.audio.espeak import VARIANTS
from vivavoz.cli.main import main
from vivavoz.data.corpus import prepare_portraits
from vivavoz.data.espeak import Engine, engine
from vivavoz.data.shards.clip import PHONEMES
from vivavoz.data.shards.codec import decode_clip
from vivavoz.data.talkers import talkers
from vivavoz.data.visemes import CLOSURES
from vivavoz.errors import ConfigError, DataError
from vivavoz.media.image import write_image

SPEAKS = 22
"""A seed whose first clip is short and speaks throughout."""


@pytest.fixture
def some_engine(monkeypatch):
    engine = Engine(version="1.0", languages=frozenset({"en-us", "en-gb", "de", "sw"}))
    monkeypatch.setattr("vivavoz.data.talkers.engine", lambda: engine)


@pytest.mark.usefixtures("some_engine")
def test_every_language_speaks_in_every_variant_and_english_shares_its_sentences():
    found = talkers(["en-us", "de", "en-gb", "de"])
    assert len(found.names) == len(set(found.names)) == 3 * len(VARIANTS)
    assert "espeak-ng en-us+f3" in found.names
    said = dict(found.sentences)
    assert said["en-us"] == said["en-gb"] != said["de"]
    assert all(len(set(sentences)) == len(sentences) >= 20 for sentences in said.values())


@pytest.mark.usefixtures("some_engine")
def test_sentences_come_from_a_file(tmp_path):
    file = tmp_path / "said.txt"
    file.write_text("# greetings\nsw| Habari ya asubuhi. \n\nen-us|Good morning.\nen|Hello.\n", encoding="utf-8")
    assert talkers(["sw", "en-us", "en-gb"], file).sentences == (
        ("sw", ("Habari ya asubuhi.",)),
        ("en-us", ("Good morning.",)),
        ("en-gb", ("Hello.",)),
    )
    file.write_text("Habari.\n")
    assert talkers(["sw"], file).sentences == (("sw", ("Habari.",)),)


@pytest.mark.usefixtures("some_engine")
def test_refuses_what_nobody_can_say(tmp_path):
    file = tmp_path / "said.txt"
    for languages, text, error, complaint in (
        (["xx"], None, ConfigError, "no language 'xx'"),
        ([""], None, ConfigError, "no language ''"),
        (["sw"], None, ConfigError, "no sentences in sw"),
        (["de"], "en|Hello.", ConfigError, "no sentences in de"),
        (["de", "en-us"], "Hello.", DataError, "line 1 .* does not say its language"),
        (["de"], "\nde| ...", DataError, "line 2 .* has no sentence"),
        (["de"], b"\xff\xfe", DataError, "cannot be read as text"),
    ):
        if text is not None:
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(error, match=complaint):
            talkers(languages, None if text is None else file)


@needs_espeak
def test_a_reader_talks_long_enough_and_always_the_same():
    found = talkers(["de", "pl"])
    reader = found.reader("espeak-ng pl+m2", seed=4, seconds=7)
    assert len(reader.samples) >= 7 * 16_000
    assert tiles(reader.phonemes, len(reader.samples) / 16_000)
    assert reader.facts["language"] == "pl"
    assert reader.facts["voice"] == "pl+m2"
    assert all(sentence in dict(found.sentences)["pl"] for sentence in [str(reader.facts["text"]).split(". ")[0] + "."])
    # Never digital silence, and rounded to what 16 bits can hold.
    assert not np.any(np.convolve(reader.samples == 0, np.ones(100), "valid") == 100)
    assert np.array_equal(reader.samples * 32768, np.round(reader.samples * 32768))
    again, other = (found.reader("espeak-ng pl+m2", seed=seed, seconds=7) for seed in (4, 5))
    assert np.array_equal(again.samples, reader.samples)
    assert again.phonemes == reader.phonemes
    assert other.facts != reader.facts


@needs_espeak
def test_another_version_is_refused():
    found = replace(talkers(["de"]), version="0.1")
    with pytest.raises(ConfigError, match=r"the run is with 0\.1"):
        found.reader("espeak-ng de+f1", seed=0, seconds=1)


@needs_espeak
def test_a_portrait_speaks_with_a_voice_that_nobody_has(tmp_path, capsys):
    pictures, cache, corpus = tmp_path / "pictures", tmp_path / "cache", tmp_path / "corpus"
    pictures.mkdir()
    write_image(pictures / "anna.png", skimage.data.astronaut())
    prepare_portraits(pictures, cache, detect=lambda image: face_landmarks(gap=0.01))
    command = ["data", "animate", "--portraits", str(pictures), "--espeak", "de,it", "-o", str(corpus), "--cache", str(cache)]
    assert main([*command, "--hours", "1e-5", "--seed", str(SPEAKS), "--licence", "CC0"]) == 0
    assert "1 clips of 1 people" in capsys.readouterr().out
    with tarfile.open(corpus / f"animated-{SPEAKS}-000000.tar") as archive:
        members = {name.partition(".")[2]: archive.extractfile(name).read() for name in archive.getnames()}
    clip = decode_clip(members)
    facts = clip.info.facts
    assert clip.info.licence == "CC0"
    assert clip.info.source == f"anna.png {facts['reader']}"
    assert facts["reader"] == f"espeak-ng {facts['voice']}"
    assert facts["speech"] == f"espeak-ng {engine().version}"
    assert any(str(facts["text"]).startswith(sentence) for sentence in dict(talkers(["de", "it"]).sentences)[facts["language"]])
    # Lips are nearly shut in every picture that shows a p, b or m, and open wide in some that show an a.
    shown = np.array([PHONEMES[index] for index in clip.labels["phoneme"]])
    opening = clip.labels["lip_shape"][:, 0]
    wide = np.percentile(opening, 95)
    assert np.isin(shown, list(CLOSURES)).any()
    assert np.median(opening[np.isin(shown, list(CLOSURES))]) < 0.25 * wide
    assert np.median(opening[shown == "AA"]) > 0.5 * wide


def test_the_command_wants_somebody_to_speak(tmp_path, capsys):
    command = ["data", "animate", "--portraits", str(tmp_path), "-o", str(tmp_path / "corpus"), "--hours", "1"]
    assert main(command) == 2
    assert "add --speech DIR, --espeak LANG[,LANG...] or both" in capsys.readouterr().err
    assert main([*command, "--speech", str(tmp_path), "--text", "a.txt"]) == 2
    assert "nobody to speak it" in capsys.readouterr().err
