"""The real model's JSON ends by itself: never by length inside a number or white space, at temperature 0.

JSON_PROMPTS=500 asks all 500 questions with each of the twenty schemas, which takes hours; the short form asks one.
"""

import os

import pytest

from benchmarks.engine.json_ends import ends_in_number_or_space, run
from benchmarks.engine.json_schemas import SCHEMAS, prompts
from infermesh_engine.requests.output import FinishReason
from infermesh_worker.engine_process.built_model import BuiltModel

PROMPTS = int(os.environ.get("JSON_PROMPTS", "1"))
QUICK = ["price", "optional"]
"""Schemas on which this model walked on through digits or members until max_tokens."""


@pytest.mark.timeout(36_000)
def test_outputs_end(fast_model: BuiltModel) -> None:
    names = list(SCHEMAS) if PROMPTS > 1 else QUICK
    outputs = list(run(fast_model, names, prompts(PROMPTS)))
    assert len(outputs) == len(names) * PROMPTS
    assert not [ended for ended in outputs if ended.is_bad]
    assert sum(ended.reason is FinishReason.LENGTH for ended in outputs) <= len(outputs) // 10


def test_there_are_500_questions() -> None:
    assert len(set(prompts(500))) == 500
    assert len(SCHEMAS) == 20


@pytest.mark.parametrize("text", ['{"a": 1', '{"a": 34.000', '{"a": -', '{"a": 1e', "{\n ", '{"a": "b",\n'])
def test_ends_that_are_bad(text: str) -> None:
    assert ends_in_number_or_space(text)


@pytest.mark.parametrize("text", ['{"a": "1', '{"a": "1 ', '{"a": "\\" 1', '{"a": true', '{"a": 1,', '{"a": "x"', "{"])
def test_ends_that_are_not(text: str) -> None:
    assert not ends_in_number_or_space(text)
