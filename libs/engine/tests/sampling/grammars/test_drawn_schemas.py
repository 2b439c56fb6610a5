"""Whatever the masks of a schema allow is a value of it: walks by chance through schemas that use every keyword.

JSON_SCHEMAS=200 walks through all of them; the short form through one for each kind of schema.
"""

import json
import os
from random import Random

import pytest
from tokenizers import Tokenizer

from infermesh_engine.sampling.grammars.grammar import GrammarFactory, GrammarState
from tests.json_schemas.drawn import KINDS, drawn
from tests.json_schemas.keywords import ACCEPTED, keywords_of
from tests.json_schemas.validating import problem

from .formats import EOS, allowed, schema

SCHEMAS = int(os.environ.get("JSON_SCHEMAS", str(len(KINDS))))
CLOSING = 0.3
"""How often a walk closes a string, list or object where it may: the others go on, but all of them end."""


def walk(state: GrammarState, tokenizer: Tokenizer, chance: Random) -> str:
    closing = {token for text in '"]}' for token in tokenizer.encode(text).ids}
    chosen: list[int] = []
    while not state.is_finished and EOS not in (choices := allowed(state)):
        ends = [token for token in choices if token in closing]
        chosen.append(chance.choice(ends if ends and chance.random() < CLOSING else choices))
        state.consume(chosen[-1])
    text: str = tokenizer.decode(chosen)
    return text


def test_walks_are_values_of_their_schema(byte_tokenizer: Tokenizer) -> None:
    factory = GrammarFactory(byte_tokenizer, frozenset({EOS}))
    for number in range(SCHEMAS):
        text = walk(factory.compile(schema(drawn(number))), byte_tokenizer, Random(number))
        assert not problem(drawn(number), text), f"{json.dumps(drawn(number))}\n{text}"


def test_the_schemas_use_every_keyword_that_is_accepted() -> None:
    used = {keyword for number in range(200) for keyword in keywords_of(drawn(number))}
    assert used - {"x-order"} == ACCEPTED
    assert len({json.dumps(drawn(number)) for number in range(200)}) == 200


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"type": "integer"}, "1.5"),
        ({"type": "integer"}, "1 2"),
        ({"format": "date"}, '"2023-02-30"'),
        ({"format": "date-time"}, '"2023-02-28T10:00:00"'),
        ({"format": "time"}, '"25:00:00Z"'),
        ({"format": "duration"}, '"P"'),
        ({"format": "hostname"}, '"-a"'),
        ({"format": "uri"}, '"a b"'),
        ({"format": "uuid"}, '"1"'),
    ],
)
def test_what_is_no_value_is_noticed(value: dict[str, str], text: str) -> None:
    assert problem(value, text)
