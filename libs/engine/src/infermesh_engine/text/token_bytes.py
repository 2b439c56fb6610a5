"""Looks up the exact bytes of single tokens, which may be part of a character."""

import json
from collections.abc import Iterator
from itertools import chain

from tokenizers import Tokenizer


class TokenBytes:
    """The exact bytes of each token of a tokenizer, computed on first use.

    Byte-level tokens are mapped back through GPT-2's table. SentencePiece's byte tokens (<0xE2>) give their byte and
    its "▁" a space. Special tokens give their own name. Ids beyond the vocabulary have no bytes.
    """

    __slots__ = ("_byte_level", "_bytes", "_replacements", "_special", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer) -> None:
        kinds = list(_decoders(tokenizer))
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._special = {i: token.content.encode() for i, token in added.items() if token.special}
        self._byte_level = _byte_of_character() if any(kind["type"] == "ByteLevel" for kind in kinds) else None
        self._replacements = [pair for kind in kinds if (pair := _replacement(kind))]
        self._bytes: dict[int, bytes] = {}

    def __getitem__(self, token_id: int) -> bytes:
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._make(token_id)
        return known

    def _make(self, token_id: int) -> bytes:
        if token_id in self._special:
            return self._special[token_id]
        token = self._tokenizer.id_to_token(token_id) or ""
        if self._byte_level is not None:
            table = self._byte_level
            return b"".join(table[c] if c in table else c.encode() for c in token)
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes.fromhex(token[3:5])
        for pattern, content in self._replacements:
            token = token.replace(pattern, content)
        return token.encode()


def _decoders(tokenizer: Tokenizer) -> Iterator[dict[str, object]]:
    """The tokenizer's decoder, or each one in its sequence, in the form of tokenizer.json."""
    if tokenizer.decoder is None:
        return
    decoder = json.loads(tokenizer.decoder.__getstate__())
    yield from decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]


def _replacement(decoder: dict[str, object]) -> tuple[str, str] | None:
    """What a decoder replaces in each token, and with what; None for other kinds of decoder."""
    match decoder:
        case {"type": "Replace", "pattern": {"String": str(pattern)}, "content": str(content)}:
            return pattern, content
        case {"type": "Metaspace", "replacement": str(pattern)}:
            return pattern, " "
    return None


def _byte_of_character() -> dict[str, bytes]:
    """GPT-2's table (openai/gpt-2, src/encoder.py): printable bytes stand for themselves, the others are moved."""
    printable = list(chain(range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100)))
    moved = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): bytes([byte]) for byte in printable}
    return table | {chr(256 + i): bytes([byte]) for i, byte in enumerate(moved)}
