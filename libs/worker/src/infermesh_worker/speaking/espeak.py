"""Turns text into phonemes with eSpeak NG, through phonemizer.

Both are under the GPL, so they are not installed with the worker: the extra `speech` of infermesh-worker brings them.
"""

import logging
import re
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.speaking.symbols import TIE, kokoro_phonemes

NOT_INSTALLED = "PHONEMES_NOT_INSTALLED"
_PACKAGES = ("phonemizer", "espeakng_loader")
_TITLES = "".join(rf"(?<!\b{title})" for title in ("Mr", "Ms", "Dr", "St", "Jr", "Sr", "Mrs", "Prof"))
_MARK = rf"[;!?¡¿—…\"«»“”„()।]|{_TITLES}(?:(?<!\d)\.|\.(?!\d))|(?<!\d)[,:]|[,:](?!\d)"
_MARKS = re.compile(f"((?: ?(?:{_MARK}) ?)+)")
"""Punctuation, with the spaces around it; not what is inside of a number, nor the point of a title.

phonemizer can keep punctuation too, but then reads "5.20 today." as two sentences.
"""
_NO_MARK = "\ufffc"
"""What phonemizer takes out as punctuation: nothing that is left."""
_AS_KNOWN = str.maketrans({"«": "“", "»": "”", "„": "“", "।": "."})
_log = logging.getLogger("phonemizer")
"""It warns of every foreign word."""


class Espeak:
    """eSpeak NG, in this process. Its state is the process's, so calls wait for one another."""

    def __init__(self) -> None:
        """Loads the library. Raises FailedPrecondition if it is not installed."""
        if any(find_spec(package) is None for package in _PACKAGES):
            raise FailedPrecondition(
                "text becomes phonemes through phonemizer and eSpeak NG, which are not installed here; because of "
                "their licence (GPL-3.0) infermesh does not bring them by itself: pip install "
                "'infermesh-worker[speech]', or `make setup-speech` in infermesh's repository",
                reason=NOT_INSTALLED,
            )
        import espeakng_loader  # noqa: PLC0415 - optional package
        from phonemizer.backend import EspeakBackend  # noqa: PLC0415 - optional package
        from phonemizer.backend.espeak.wrapper import EspeakWrapper  # noqa: PLC0415 - optional package

        EspeakWrapper.set_library(espeakng_loader.get_library_path())
        EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
        _log.setLevel(logging.ERROR)
        self._make = EspeakBackend
        self._backends: dict[str, Any] = {}
        self._lock = threading.Lock()

    def phonemes(self, text: str, language: str) -> str:
        """Kokoro's phonemes of a text, with its punctuation. `language`: eSpeak NG's name of it, such as "en-us"."""
        plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        pieces = _MARKS.split(plain)  # words, marks, words, …
        pieces[::2] = self._spoken(pieces[::2], language)
        pieces[1::2] = (marks.translate(_AS_KNOWN) for marks in pieces[1::2])
        return kokoro_phonemes("".join(pieces), language)

    def _spoken(self, words: Sequence[str], language: str) -> Sequence[str]:
        """The phonemes of each run of words; of an empty one, none."""
        given = [run for run in words if run.strip()]
        with self._lock:
            spoken = iter(self._backend(language).phonemize(given, strip=True) if given else ())
        return [next(spoken, "") if run.strip() else "" for run in words]

    def _backend(self, language: str) -> Any:
        if language not in self._backends:
            self._backends[language] = self._make(
                language,
                punctuation_marks=_NO_MARK,
                with_stress=True,
                tie=TIE,
                language_switch="remove-flags",
                logger=_log,
            )
        return self._backends[language]
