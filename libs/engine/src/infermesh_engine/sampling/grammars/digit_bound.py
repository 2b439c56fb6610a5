"""Bounds the digits of JSON numbers: after `MOST_DIGITS` in a row, another one is forbidden where the number may end.

llguidance bounds white space itself, but its numbers may have any number of digits, and at temperature 0 a small model
writes zeros until max_tokens. Follows the bytes of the output, so that digits in strings are left alone.
"""

# ruff: noqa: PLC0415 - llguidance is imported only to compile a format

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MOST_DIGITS = 20
"""Digits in a row: as many as the largest 64-bit number has. A token that begins with fewer may end with more."""

_DIGITS = b"0123456789"
_QUOTE, _BACKSLASH = b'"\\'

Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DigitTokens:
    """The tokens of a vocabulary that matter, as masks: bit i & 7 of byte i >> 3 for token i."""

    tokenizer: "LLTokenizer"
    leading: Bits
    """Tokens that begin with a digit."""
    single: tuple[int, ...]
    """Tokens that are one digit."""

    @classmethod
    def of(cls, tokenizer: "LLTokenizer") -> "DigitTokens":
        """Finds them, in a few milliseconds."""
        single = np.unpackbits(_first_tokens(tokenizer, "[0-9]"), bitorder="little")
        leading = _first_tokens(tokenizer, "[0-9](?s:.)*")
        return cls(tokenizer, leading, tuple(np.flatnonzero(single).tolist()))


class DigitBound:
    """The position of one output: whether it is in a string, and how many digits it ends with."""

    __slots__ = ("_digits", "_escaped", "_in_string", "_tokens")

    def __init__(self, tokens: DigitTokens) -> None:
        self._tokens = tokens
        self._digits = 0
        self._in_string = False
        self._escaped = False

    @property
    def is_reached(self) -> bool:
        """Whether a number of the output has as many digits in a row as it may have."""
        return self._digits >= MOST_DIGITS

    def consume(self, token_id: int) -> None:
        """Moves past a token."""
        data: bytes = self._tokens.tokenizer.decode_bytes([token_id])
        if self._in_string or b'"' in data:
            for byte in data:
                self._consume_byte(byte)
            return
        before = data.rstrip(_DIGITS)
        self._digits = len(data) - len(before) + (0 if before else self._digits)

    def narrow(self, allowed: Bits, matcher: "LLMatcher") -> Bits:
        """The allowed tokens without those that add a digit.

        Where only digits may follow, because of the schema's own bounds, those after which the number may end; where
        there are none either, all that are allowed.
        """
        others = allowed & ~self._tokens.leading
        return others if others.any() else self._last_digits(allowed, matcher)

    def _last_digits(self, allowed: Bits, matcher: "LLMatcher") -> Bits:
        last = np.zeros_like(allowed)
        for token_id in self._tokens.single:
            if not allowed[token_id >> 3] >> (token_id & 7) & 1:
                continue
            after = matcher.deep_copy()
            if after.consume_token(token_id) and (_mask(after) & ~self._tokens.leading).any():
                last[token_id >> 3] |= 1 << (token_id & 7)
        return last if last.any() else allowed

    def _consume_byte(self, byte: int) -> None:
        if self._escaped:
            self._escaped = False
        elif byte == _QUOTE:
            self._in_string = not self._in_string
        elif self._in_string:
            self._escaped = byte == _BACKSLASH
        self._digits = self._digits + 1 if not self._in_string and byte in _DIGITS else 0


def _first_tokens(tokenizer: "LLTokenizer", regex: str) -> Bits:
    """The tokens with which a match of the expression may begin."""
    from llguidance import LLMatcher

    return _mask(LLMatcher(tokenizer, LLMatcher.grammar_from_regex(regex), log_level=0))


def _mask(matcher: "LLMatcher") -> Bits:
    return np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
