"""Sounds of any language, written in the International Phonetic Alphabet, as the ARPAbet symbols whose lips look most alike.

Lips matter, not ears: front rounded vowels become back rounded ones, a trill becomes the tongue's D and not English R with its
rounded lips, and whatever the throat does becomes a sound that leaves the lips to its neighbours.
"""

import unicodedata
from typing import Final

NEUTRAL: Final = "HH"
"""A sound that hardly pulls at the lips: for sounds nobody knows."""

_MEMBERS: Final = {
    "IY": "i",
    "IH": "ɪᵻɨɯ",
    "UW": "uyʉ",
    "UH": "ʊʏøɵᵿ",
    "EH": "eɛ",
    "AE": "æ",
    "AH": "əɐʌɘɤ",
    "ER": "ɚɜɝɞ",
    "AA": "aɑ",
    "AO": "oɔɒœɶ",
    "P": "pʘ",
    "B": "bɓʙ",
    "M": "m",
    "F": "fɸ",
    "V": "vβʋⱱɱ",
    "TH": "θ",
    "DH": "ð",
    "T": "tʈǀǃǂ",
    "D": "dɖɗrɾɽ",
    "N": "nɳɲ",
    "L": "lɭɫʎʟɬɮɺǁ",
    "S": "s",
    "Z": "z",
    "SH": "ʃʂɕɧ",
    "ZH": "ʒʐʑ",
    "K": "kcq",
    "G": "gɡɟɢɣɰɠʄʛʁʀ",
    "NG": "ŋɴ",
    "R": "ɹɻ",
    "W": "wʍɥʷ",
    "Y": "jçʝʲ",
    "HH": "hɦxχħʕʔʜʢʡ",
}
"""Every letter of the alphabet for a place and manner of articulation, under its symbol."""

_TOGETHER: Final = {
    "AY": ("aɪ", "ɑɪ", "aɪ̯"),
    "AW": ("aʊ", "ɑʊ"),
    "OY": ("ɔɪ", "oɪ", "ɔø", "ɔʏ"),
    "EY": ("eɪ", "ɛɪ"),
    "OW": ("oʊ", "əʊ", "oː"),
    "CH": ("tʃ", "tɕ", "tʂ"),
    "JH": ("dʒ", "dʑ", "dʐ"),
}
"""Letters that stand for one symbol together."""

_SYMBOL_OF: Final = {letter: symbol for symbol, letters in _MEMBERS.items() for letter in letters} | {
    letters: symbol for symbol, many in _TOGETHER.items() for letters in many
}
_TIE: Final = "\u0361"
_LONGEST: Final = 2


def arpabet(ipa: str) -> tuple[str, ...]:
    """The symbols that a sound in IPA looks like, in order: one, or several for diphthongs and the like; none if none is known.

    Signs of length, stress, nasality and other detail are passed over, and accented letters are read without their accents.
    """
    text = unicodedata.normalize("NFC", ipa.replace(_TIE, ""))
    if any(letter not in _SYMBOL_OF for letter in text):
        text = "".join(part for letter in text for part in _known_parts(letter))
    symbols: list[str] = []
    at = 0
    while at < len(text):
        length = next((size for size in range(_LONGEST, 0, -1) if text[at : at + size] in _SYMBOL_OF), 0)
        if length:
            symbols.append(_SYMBOL_OF[text[at : at + length]])
        at += length or 1
    return tuple(symbols)


def _known_parts(letter: str) -> str:
    """A letter that is known, or what is known of its parts."""
    if letter in _SYMBOL_OF or letter == "ː":
        return letter
    return "".join(part for part in unicodedata.normalize("NFD", letter.lower()) if part in _SYMBOL_OF)
