"""Converts a tiktoken file, lines of a token in base64 and its rank, to a byte-level BPE tokenizer."""

import base64
import binascii
from collections.abc import Iterator, Mapping

from tokenizers import Tokenizer, decoders, processors
from tokenizers.models import BPE

from infermesh_client.gguf_metadata.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from infermesh_runtime.errors import InvalidArgument

_LLAMA3, _GPT4O, _QWEN = PRE_TOKENIZERS["llama-bpe"], PRE_TOKENIZERS["gpt-4o"], PRE_TOKENIZERS["qwen2"]
_O200K_RANKS = 190_000
"""The vocabularies of OpenAI's o200k family are larger, those of cl100k, which Llama 3 has too, are smaller."""


def is_tiktoken(content: bytes) -> bool:
    """Whether a file begins with a line of a token in base64 and its rank."""
    try:
        next(_ranks(content))
    except (ValueError, StopIteration):
        return False
    return True


def read_tiktoken(content: bytes, model_type: str) -> Tokenizer:
    """The tokenizer, without special tokens, which such files do not have. Raises InvalidArgument for a damaged file.

    How text is split is not in the file: it depends on `model_type` (of config.json), else on the number of tokens.
    """
    try:
        ranks = dict(_ranks(content))
    except ValueError as error:
        raise InvalidArgument(f"the tokenizer's file of tokens and ranks is damaged: {error}") from error
    names = {token: _characters(token) for token in ranks}
    vocabulary = {names[token]: rank for token, rank in ranks.items()}
    merges = [(names[left], names[right]) for left, right in _merges(ranks)]
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    family = _family(model_type, len(ranks))
    if (normalizer := family.build_normalizer()) is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = family.build(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _family(model_type: str, size: int) -> PreTokenizer:
    if model_type.startswith("qwen"):
        return _QWEN
    return _GPT4O if size > _O200K_RANKS else _LLAMA3


def _ranks(content: bytes) -> Iterator[tuple[bytes, int]]:
    for line in content.splitlines():
        if line:
            token, _, rank = line.partition(b" ")
            try:
                yield base64.b64decode(token, validate=True), int(rank)
            except binascii.Error as error:
                raise ValueError(str(error)) from error


def _merges(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """All pairs of tokens that join into a third, by its rank, then by theirs; as transformers' TikTokenConverter."""
    for token in sorted(ranks, key=ranks.__getitem__):
        cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
        pairs = [(left, right) for left, right in cuts if left in ranks and right in ranks]
        yield from sorted(pairs, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))


def _characters(token: bytes) -> str:
    """The characters that stand for bytes in byte-level tokenizers (GPT-2's `bytes_to_unicode`)."""
    return "".join(map(_CHARACTERS.__getitem__, token))


def _characters_of_bytes() -> list[str]:
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


_CHARACTERS = _characters_of_bytes()
