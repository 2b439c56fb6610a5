"""Cuts texts into sentences, and phonemes into pieces that the model takes; the same text is always cut alike."""

import re
from collections.abc import Iterator

SHORT = 40
"""A sentence of fewer characters is joined with the next one: alone, it would be spoken in haste."""
_END = re.compile(r"(?<=[.!?…।])[\"'”’»)\]]*\s+")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Za-z]|Mrs?|Ms|Dr|St|Sr|Jr|Prof|vs|etc|No|e\.g|i\.e)\.$")
_LONGEST = 8
"""Of an abbreviation, in characters, with what is before it."""
_PLACES = (re.compile(r"(?<=[.!?…])\s+"), re.compile(r"(?<=[,;:—])\s+"), re.compile(r"\s+"))
"""Where phonemes may be cut, the best first."""


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, short ones with what follows them on the same line."""
    for line in text.splitlines():
        begun = ""
        for sentence in _of_line(line):
            begun = f"{begun} {sentence}".strip()
            if len(begun) >= SHORT:
                yield begun
                begun = ""
        if begun:
            yield begun


def parts(phonemes: str, most: int) -> Iterator[str]:
    """The phonemes in parts of at most `most`, cut at marks or between words where that is possible.

    `phonemes` have no line breaks and no double spaces.
    """
    begin = 0
    while len(phonemes) - begin > most:
        end = _best_end(phonemes, begin, most)
        if part := phonemes[begin:end].strip():
            yield part
        begin = end
    if rest := phonemes[begin:].strip():
        yield rest


def _of_line(line: str) -> Iterator[str]:
    begin = 0
    for found in _END.finditer(line):
        if not _ABBREVIATION.search(line[max(begin, found.start() - _LONGEST) : found.start()]):
            yield line[begin : found.end()].strip()
            begin = found.end()
    if rest := line[begin:].strip():
        yield rest


def _best_end(phonemes: str, begin: int, most: int) -> int:
    """Where to cut: at the last place of the best sort in the second half of what may be taken."""
    for place in _PLACES:
        ends = [found.end() for found in place.finditer(phonemes, begin + most // 2, begin + most + 1)]
        if ends:
            return ends[-1]
    return begin + most
