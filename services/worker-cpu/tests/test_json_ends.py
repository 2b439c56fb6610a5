"""The real model's JSON ends by itself: never by length inside a number or white space, at temperature 0.

JSON_PROMPTS=500 asks all 500 questions with each of the twenty schemas, which takes hours; the short form asks one.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine import json_ends
from benchmarks.engine.json_ends import Asked, Ended, collect, ends_in_number_or_space, run
from benchmarks.engine.json_schemas import SCHEMAS, prompts
from infermesh_engine.requests.output import FinishReason
from infermesh_worker.engine_process.built_model import BuiltModel

PROMPTS = int(os.environ.get("JSON_PROMPTS", "1"))
QUICK = ["price", "optional"]
"""Schemas on which this model walked on through digits or members until max_tokens."""


@pytest.mark.timeout(36_000)
def test_outputs_end(fast_model: BuiltModel) -> None:
    names = list(SCHEMAS) if PROMPTS > 1 else QUICK
    outputs = list(run(fast_model, [Asked(question, name) for question in range(PROMPTS) for name in names]))
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


def test_outputs_are_collected_over_several_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Asked] = []

    def answer(_model: object, wanted: Iterable[Asked], **_options: object) -> Iterator[Ended]:
        for each in wanted:
            asked.append(each)
            yield Ended(question=each.question, schema=each.schema, text="{}", reason=FinishReason.STOP, tokens=2)

    monkeypatch.setattr(json_ends, "run", answer)
    model: Any = None
    path, flags = tmp_path / "outputs.json", {"open": False, "unbounded": False}
    assert not collect(model, path, 6, seconds=0, flags=flags).outputs
    assert len(collect(model, path, 6, seconds=60, flags=flags).outputs) == 6 * len(SCHEMAS)
    whole = collect(model, path, 11, seconds=60, flags=flags)
    assert asked == [Asked(question, name) for question in range(11) for name in SCHEMAS]
    assert len(whole.outputs) == len(whole.done) == len(asked)
    with pytest.raises(ValueError, match="was made with"):
        collect(model, path, 12, seconds=60, flags=flags | {"open": True})
