from dataclasses import replace

import pytest

from tests.unit.evaluate.material import NUM_FRAMES, babble, drawn_portrait
from vivavoz.errors import DataError
from vivavoz.evaluate.material import Material


def test_pairs_go_round():
    names = [replace(drawn_portrait(), name=name) for name in "ab"]
    speeches = [replace(babble(), name=name) for name in "xyz"]
    pairs = Material(portraits=tuple(names), speeches=tuple(speeches)).pairs(7)
    assert [portrait.name + speech.name for portrait, speech in pairs] == ["ax", "by", "az", "bx", "ay", "bz", "ax"]


def test_nothing_to_measure_on_is_refused():
    with pytest.raises(DataError, match="0 recordings"):
        Material(portraits=(drawn_portrait(),), speeches=())


def test_cut_keeps_sound_and_motion_together():
    short = babble().cut(24)
    assert len(short.motion) == 24
    assert len(short.samples) == 24 * 640
    assert [phoneme.symbol for phoneme in short.phonemes] == ["AA", "P"]
    assert len(babble().cut(10_000).motion) == NUM_FRAMES
