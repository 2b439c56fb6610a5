"""Finds the token sequences that spell a text, at the beginning of a word and inside one."""

from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer


def spell_bad_words(tokenizer: Tokenizer, words: Iterable[str]) -> tuple[tuple[int, ...], ...]:
    """The token sequences that an output must not contain, so that it does not contain the words.

    As in vLLM, a word is tokenised as it is, and with a space before it if that only changes its first token.
    """
    return tuple(dict.fromkeys(sequence for word in words for sequence in _spell(tokenizer, word)))


def _spell(tokenizer: Tokenizer, word: str) -> Iterator[tuple[int, ...]]:
    plain = tuple(tokenizer.encode(word.lstrip(), add_special_tokens=False).ids)
    spaced = tuple(tokenizer.encode(" " + word.lstrip(), add_special_tokens=False).ids)
    if plain:
        yield plain
    if spaced and (not plain or (spaced[0] != plain[0] and len(spaced) == len(plain))):
        yield spaced
