"""Converted SentencePiece models give the ids that SentencePiece itself gives.

sentencepiece.json has small models, trained by the package sentencepiece (0.2.3), texts, and its ids of them.
"""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from infermesh_client.tokenizer_files.sentencepiece import read_sentencepiece
from infermesh_runtime.errors import InvalidArgument


@cache
def stored() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(__file__).with_name("sentencepiece.json").read_text())
    return document


@pytest.mark.parametrize("kind", ["bpe", "bpe_without_prefix", "unigram"])
def test_ids_are_those_of_sentencepiece(kind: str) -> None:
    tokenizer = read_sentencepiece(base64.b64decode(stored()[kind]["model"]))
    encoded = tokenizer.encode_batch(stored()["texts"], add_special_tokens=False)
    assert [each.ids for each in encoded] == stored()[kind]["ids"]
    assert tokenizer.decode(tokenizer.encode("hello  world 仇", add_special_tokens=False).ids).split() == [
        "hello",
        "world",
        "仇",
    ]


def test_bos_comes_before_a_text() -> None:
    tokenizer = read_sentencepiece(base64.b64decode(stored()["bpe"]["model"]))
    assert tokenizer.encode("hello").ids[0] == tokenizer.token_to_id("<s>")
    assert {"<s>", "</s>"} <= {t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special}


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x0a\xff\xff\xff"])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"tokenizer\.model is no SentencePiece model"):
        read_sentencepiece(content)
