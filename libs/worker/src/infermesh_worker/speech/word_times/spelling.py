"""Turns text into Whisper's tokens and back, and splits what was written into words."""

import string
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from infermesh_worker.speech.languages import UNSPACED

_HOLE = "\ufffd"
"""What bytes that are no whole character decode to."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its tokens: the space before it and the punctuation around it are its own."""

    text: str
    tokens: tuple[int, ...]


class Spelling:
    """One model's tokens of text: those below the token that ends a text."""

    def __init__(self, tokenizer: Tokenizer, end: int) -> None:
        self._tokenizer = tokenizer
        self._end = end
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # a prompt may spell <|endoftext|>, which is text there

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; special tokens that it spells are text."""
        return [id_ for id_ in self._tokenizer.encode(text, add_special_tokens=False).ids if id_ < self._end]

    def text_tokens(self, tokens: Sequence[int]) -> list[int]:
        """Those that are text."""
        return [token for token in tokens if token < self._end]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; times and other special tokens have none."""
        text: str = self._tokenizer.decode(self.text_tokens(tokens), skip_special_tokens=True)
        return text

    def words(self, tokens: Sequence[int], language: str) -> list[Word]:
        """The words of a text; in languages without spaces, its characters."""
        characters = self._characters(tokens)
        return characters if language in UNSPACED else _spaced(characters)

    def _characters(self, tokens: Sequence[int]) -> list[Word]:
        """The shortest runs of tokens that are whole characters."""
        whole = self.decode(tokens)
        found: list[Word] = []
        run: list[int] = []
        done = 0
        for token in tokens:
            run.append(token)
            text = self.decode(run)
            hole = text.find(_HOLE)
            if hole < 0 or whole[done + hole : done + hole + 1] == _HOLE:  # the text itself has this character
                found.append(Word(text, tuple(run)))
                done += len(text)
                run = []
        return [*found, Word(self.decode(run), tuple(run))] if run else found


def _spaced(characters: Sequence[Word]) -> list[Word]:
    """Joins runs to words, which begin with a space or are punctuation."""
    words: list[Word] = []
    for part in characters:
        if not words or part.text.startswith(" ") or part.text.strip() in string.punctuation:
            words.append(part)
        else:
            words[-1] = _joined(words[-1], part)
    return words


def _joined(first: Word, second: Word) -> Word:
    return Word(first.text + second.text, first.tokens + second.tokens)
