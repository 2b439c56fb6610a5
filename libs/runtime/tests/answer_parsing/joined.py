"""Parses answers in tests: split in several ways, which must make no difference, and the parts joined."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from infermesh_runtime.answer_parsing.parser import new_parser
from infermesh_runtime.answer_parsing.parts import (
    CallArguments,
    CallBegins,
    CallEnds,
    OutputStyle,
    Part,
    Reasoning,
    Text,
    Tools,
)
from infermesh_runtime.testing.written_calls import TOOLS


@dataclass
class Joined:
    """The parts of an answer, joined."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    complete: list[bool] = field(default_factory=list)


def join(parts: Sequence[Part]) -> Joined:
    joined, arguments = Joined(), dict[int, str]()
    for part in parts:
        match part:
            case Text(text):
                joined.text += text
            case Reasoning(text):
                joined.reasoning += text
            case CallBegins(index, name):
                assert index == len(joined.calls)
                joined.calls.append((name, None))
            case CallArguments(index, text):
                assert index == len(joined.calls) - 1 == len(joined.complete)
                arguments[index] = arguments.get(index, "") + text
            case CallEnds(index, complete):
                assert index == len(joined.calls) - 1 == len(joined.complete)
                joined.complete.append(complete)
                value = json.loads(arguments[index]) if complete else arguments.get(index, "")
                joined.calls[index] = (joined.calls[index][0], value)
    assert len(joined.calls) == len(joined.complete)
    return joined


def splits(text: str) -> Iterator[list[str]]:
    """The text whole, by characters, and in pieces of random sizes."""
    yield [text]
    yield list(text)
    for seed in range(4):
        rng, pieces, at = random.Random(seed), [], 0
        while at < len(text):
            size = rng.randint(1, 9)
            pieces.append(text[at : at + size])
            at += size
        yield pieces


def parse(style: OutputStyle | str, text: str, *, truncated: bool = False, tools: Tools = TOOLS) -> Joined:
    """Parses a text split in several ways, which must make no difference."""
    style = style if isinstance(style, OutputStyle) else OutputStyle(style)
    results: list[Joined] = []
    for pieces in splits(text):
        parser = new_parser(style, tools)
        parts = [part for piece in pieces for part in parser.feed(piece)]
        results.append(join([*parts, *parser.end(truncated)]))
    assert all(result == results[0] for result in results)
    return results[0]
