"""The lines of a file become bodies as they are run, or problems of their lines."""

import json

import orjson
import pytest

from infermesh_router.batches.lines import read_lines
from infermesh_router.requests.bounds import Bounds
from infermesh_router.testing.batches import CHAT, line

BOUNDS = Bounds(values=1000)


def test_a_line_is_kept_as_it_is_run() -> None:
    (lines, problems), _ = read_lines(line("a", stream=True, priority=5, seed=1), CHAT, BOUNDS)
    assert problems == []
    assert orjson.loads(lines[0].body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "a"}],
        "seed": 1,
        "stream": False,
        "priority": 100,
    }


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (line("b", seed=1 << 70), "'body' cannot be read: Integer exceeds 64-bit range."),
        (line("b", odd=[[[-(1 << 63) - 1]]]), "'body' cannot be read: Integer exceeds 64-bit range."),
        (line("b", stop=["x" * 1000] * 300 + [""] * 1000), "The body has 13"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_problem_of_its_line(bad: bytes, told: str) -> None:
    (lines, (problem,)), _ = read_lines(line("a") + bad + line("c"), CHAT, BOUNDS)
    assert [each.custom_id for each in lines] == ["a", "c"]
    assert (problem.line, problem.code) == (2, "invalid_request")
    assert problem.message.startswith(told)


def test_the_largest_integers_are_kept() -> None:
    (lines, _), _ = read_lines(line("a", seed=(1 << 64) - 1, odd=-(1 << 63)), CHAT, BOUNDS)
    body = json.loads(lines[0].body)
    assert (body["seed"], body["odd"]) == ((1 << 64) - 1, -(1 << 63))
