"""The JSON of a schema ends, whatever the model likes best: digits and white space are bounded.

The schemas have no unbounded strings or arrays, so each walk must end.
"""

import json
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.digit_bound import MOST_DIGITS
from infermesh_engine.sampling.grammars.grammar import GrammarFactory, GrammarState

from .formats import admits, allowed, schema

EOS = 256
NUMBER, INTEGER = {"type": "number"}, {"type": "integer"}
SCHEMAS: list[Any] = [
    NUMBER,
    INTEGER,
    NUMBER | {"minimum": 0},
    NUMBER | {"exclusiveMinimum": 0, "maximum": 1},
    NUMBER | {"minimum": -5.5, "exclusiveMaximum": 1e15},
    NUMBER | {"exclusiveMaximum": -1},
    INTEGER | {"minimum": 1},
    INTEGER | {"maximum": -1},
    INTEGER | {"multipleOf": 7},
    NUMBER | {"multipleOf": 0.01},
    {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 3},
    {"type": "object", "properties": {"price": NUMBER, "n": INTEGER}, "required": ["price", "n"]},
    {"type": "object", "properties": {"1": NUMBER, "s": {"type": "string", "maxLength": 3}}, "required": ["s", "1"]},
    {"type": "object", "properties": {"o": {"type": "object", "properties": {"p": NUMBER}, "required": ["p"]}}},
    {"anyOf": [NUMBER, {"type": "null"}]},
    {"oneOf": [{"type": "boolean"}, INTEGER]},
    {"$ref": "#/$defs/n", "$defs": {"n": NUMBER}},
]
LONG_TOKENS = ["00", "0000", "00000000", "123", "ĠĠ", "ĊĊ", "Ċ" + 8 * "Ġ", "0,"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes, the end of sequence, and tokens of several digits or spaces."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(letters)} | {"<eos>": EOS}
    vocabulary |= {text: EOS + 1 + i for i, text in enumerate(LONG_TOKENS)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.add_special_tokens(["<eos>"])
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


@pytest.fixture(scope="module")
def factory(tokenizer: Tokenizer) -> GrammarFactory:
    return GrammarFactory(tokenizer, frozenset({EOS}))


def walk(state: GrammarState, tokenizer: Tokenizer, likes: str, *, most_tokens: int = 300) -> str:
    """The output of a model that likes the characters of `likes`, in their order, then to close strings and lists."""
    order = likes + '"]}'
    texts = [tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size())]
    rank = [min((order.find(c) for c in text if c in order), default=len(order)) for text in texts]
    chosen: list[int] = []
    while not state.is_finished and len(chosen) < most_tokens:
        token_id = min(allowed(state), key=lambda i: (i == EOS, rank[i], -len(texts[i]), i))
        if token_id == EOS:
            break
        state.consume(token_id)
        chosen.append(token_id)
    return tokenizer.decode(chosen)


@pytest.mark.parametrize("value", SCHEMAS, ids=range(len(SCHEMAS)))
@pytest.mark.parametrize("likes", ["0", "10", "9.", " 0", "\n \t0", "0123456789 ", "e0.", "\t\n 9876543210.e+-"])
def test_walks_end(factory: GrammarFactory, tokenizer: Tokenizer, value: Any, likes: str) -> None:
    text = walk(factory.compile(schema(value)), tokenizer, likes)
    json.loads(text)
    digits = max(map(len, "".join(c if c.isdigit() else " " for c in text).split()), default=0)
    assert digits < MOST_DIGITS + 8, text  # a token has up to 8 digits


def test_numbers_within_the_bound_are_whole(factory: GrammarFactory, tokenizer: Tokenizer) -> None:
    for text in ("18446744073709551615", "-9223372036854775808", f"0.{'3' * MOST_DIGITS}", f"{'1' * 20}.5e-308"):
        assert admits(factory, tokenizer, schema(NUMBER), text), text
    assert not admits(factory, tokenizer, schema(INTEGER), "1" * (MOST_DIGITS + 1))


def test_digits_in_strings_and_the_users_own_are_left_alone(factory: GrammarFactory, tokenizer: Tokenizer) -> None:
    long = "1" * (MOST_DIGITS + 20)
    for value in ({"type": "string"}, {"type": "string", "pattern": "^[0-9]+$"}, {"const": long}):
        assert admits(factory, tokenizer, schema(value), f'"{long}"'), value
    quoted = {"type": "object", "properties": {'a"1\\': {"type": "string"}}, "required": ['a"1\\']}
    assert admits(factory, tokenizer, schema(quoted), json.dumps({'a"1\\': long}, separators=(",", ":")))
    assert admits(factory, tokenizer, schema(INTEGER | {"minimum": 10**17, "maximum": 10**18}), str(10**18))
    assert admits(factory, tokenizer, OutputFormat(kind="regex", spec="[0-9]+"), long)


def test_a_continuation_goes_on_counting(factory: GrammarFactory, tokenizer: Tokenizer) -> None:
    """Digits that were delivered before count too, when tokens are replayed."""
    state = factory.compile(schema(NUMBER))
    for token_id in tokenizer.encode("0." + "0" * MOST_DIGITS).ids:
        state.consume(token_id)
    assert not {c for i in allowed(state) if (c := tokenizer.decode([i])) and c[0].isdigit()}
