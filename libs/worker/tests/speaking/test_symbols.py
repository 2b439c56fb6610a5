"""Phonemes of eSpeak NG as Kokoro's, against what misaki 0.9.4 made of the same ones."""

import pytest

from infermesh_worker.speaking.symbols import kokoro_phonemes


@pytest.mark.parametrize(
    ("language", "ipa", "expected"),
    [
        ("en-us", "həlˈo^ʊ, wˈɜːld!", "həlˈO, wˈɜɹld!"),
        ("en-us", "spˈiːt^ʃ d^ʒˈʌmps nˈa^ɪn bˈɔ^ɪ nˈa^ʊ", "spˈiʧ ʤˈʌmps nˈIn bˈY nˈW"),
        ("en-us", "bˈɑːɾə^l wˈɔːɾɚ kwˈo^ʊɾᵻd", "bˈɑTᵊl wˈɔTəɹ kwˈOTᵻd"),
        ("en-us", "bˈʌʔn\u0329", "bˈʌtn"),
        ("en-gb", "nˌi^ə ðˈe^ə, ˈə^ʊld bˈɔ^ɪ kˈɑːnt", "nˌiə ðˈɛː, ˈQld bˈY kˈɑːnt"),
        ("it", "t^ʃˈao, kˌome  stˈaj?\n", "ʧˈao, kˌome stˈaj?"),
        ("es", "el nˈi-ɲo", "el nˈiɲo"),
    ],
)
def test_symbols(language: str, ipa: str, expected: str) -> None:
    assert kokoro_phonemes(ipa, language) == expected
