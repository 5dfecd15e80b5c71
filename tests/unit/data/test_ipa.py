import pytest

from vivavoz.data.ipa import arpabet
from vivavoz.data.phonemes import CONSONANTS, VOWELS


@pytest.mark.parametrize(
    ("ipa", "symbols"),
    [
        ("b", "B"),
        ("ɡ", "G"),
        ("iː", "IY"),
        ("aɪ", "AY"),
        ("aɪɚ", "AY ER"),
        ("ɔø", "OY"),
        ("t͡ʃ", "CH"),
        ("tɕ", "CH"),
        ("ts", "T S"),
        ("pf", "P F"),
        ("yː", "UW"),
        ("ɑ̃", "AA"),
        ("õ", "AO"),
        ("ç", "Y"),
        ("ɹ", "R"),
        ("r", "D"),
        ("tʰ", "T"),
        ("kʷ", "K W"),
        ("l̩", "L"),
        ("ʊɹ", "UH R"),
    ],
)
def test_sounds_look_like(ipa, symbols):
    assert " ".join(arpabet(ipa)) == symbols


def test_lips_that_meet_are_told_from_lips_that_nearly_do():
    assert arpabet("β") == arpabet("ʋ") == ("V",)


@pytest.mark.parametrize("ipa", ["", "ː", "?", "ˈ", "5"])
def test_what_is_no_sound_has_no_symbol(ipa):
    assert arpabet(ipa) == ()


def test_every_letter_of_the_alphabet_has_a_symbol():
    vowels = "iyɨʉɯuɪʏʊeøɘɵɤoəɛœɜɞʌɔæɐaɶɑɒɚɝ"
    consonants = "pbtdʈɖcɟkɡqɢʔmɱnɳɲŋɴʙrʀⱱɾɽɸβfvθðszʃʒʂʐçʝxɣχʁħʕhɦɬɮʋɹɻjɰlɭʎʟʍwɥʜʢʡɕʑɺɧʘǀǃǂǁɓɗʄɠʛ"
    assert {letter for letter in vowels if not set(arpabet(letter)) <= VOWELS or not arpabet(letter)} == set()
    assert {letter for letter in consonants if not set(arpabet(letter)) <= CONSONANTS or not arpabet(letter)} == set()
