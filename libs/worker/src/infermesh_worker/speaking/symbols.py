"""Writes eSpeak NG's phonemes in the symbols that Kokoro was trained on.

The tables are those of misaki (Apache-2.0), the library that wrote Kokoro's training data: `misaki.espeak`. Its rule
for "e^ə" is before that for "e" here, as it is meant; misaki never comes to it.
"""

import re

TIE = "^"
"""Joins the letters of one phoneme, as in "a^ɪ"; eSpeak NG is told to write it."""
_ENGLISH = {
    "ʔˌn\u0329": "ʔn",
    "ʔn\u0329": "ʔn",
    "a^ɪ": "I",
    "a^ʊ": "W",
    "d^ʒ": "ʤ",
    "e^ɪ": "A",
    "e^ə": "ɛː",
    "t^ʃ": "ʧ",
    "ɔ^ɪ": "Y",
    "ə^l": "ᵊl",
    "ʲo": "jo",
    "ʲə": "jə",
    "ʲ": "",
    "ɚ": "əɹ",
    "r": "ɹ",
    "x": "k",
    "ç": "k",
    "ɐ": "ə",
    "ɬ": "l",
    "\u0303": "",
}
_BRITISH = {"iə": "ɪə", "ə^ʊ": "Q"}
_AMERICAN = {"o^ʊ": "O", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ː": ""}
_EVERY_ENGLISH = {"e": "A", "o": "ɔ", "ɾ": "T", "ʔ": "t"}
_OTHER = {
    "a^ɪ": "I",
    "a^ʊ": "W",
    "d^z": "ʣ",
    "d^ʒ": "ʤ",
    "e^ɪ": "A",
    "o^ʊ": "O",
    "ə^ʊ": "Q",
    "s^s": "S",
    "t^s": "ʦ",
    "t^ʃ": "ʧ",
    "ɔ^ɪ": "Y",
    "-": "",
}
_SYLLABIC = re.compile("(\\S)\u0329")


def kokoro_phonemes(ipa: str, language: str) -> str:
    """The phonemes of a text in a language (eSpeak NG's name of it), without line breaks and double spaces."""
    if language.startswith("en"):
        ipa = _SYLLABIC.sub(r"ᵊ\1", _replace(ipa, _ENGLISH))
        ipa = _replace(ipa, _BRITISH if language == "en-gb" else _AMERICAN)
        ipa = _replace(ipa, _EVERY_ENGLISH)
    else:
        ipa = _replace(ipa, _OTHER)
    return " ".join(ipa.replace(TIE, "").split())


def _replace(text: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        text = text.replace(old, new)
    return text
