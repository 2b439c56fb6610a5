"""The conformance suite canitoolcall, unmodified, over the parsers; a data file gives the reason of each failure."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from canitoolcall import checks
from canitoolcall.chunking import parse_strategies, split
from canitoolcall.fixtures import Family, Fixture, load_families, load_fixtures
from canitoolcall.results import Observation, ParsedToolCall, ParseResult, Status, worst_status

from infermesh_runtime.answer_parsing.parser import new_parser
from infermesh_runtime.answer_parsing.parts import CallArguments, CallBegins, OutputStyle, Part, Reasoning, Text, Tools

KNOWN = Path(__file__).with_name("canitoolcall_failures.json")
STRATEGIES = parse_strategies(None)
THINK = "think"
# The model of a fixture says how it writes; the longest beginning of its name decides
STYLES = {
    "DeepSeek-V3": ("deepseek", THINK),
    "DeepSeek-V3.2": ("deepseek-dsml", THINK),
    "DeepSeek-V4": ("deepseek-dsml", THINK),
    "gemma-4": ("gemma", "gemma"),
    "GLM": ("glm", THINK),
    "gpt-oss": ("harmony", ""),
    "Kimi-K2": ("kimi-k2", THINK),
    "Kimi-K3": ("kimi-k3", "kimi-k3"),
    "Llama-3": ("llama3", ""),
    "Llama-4": ("pythonic", ""),
    "Magistral-Small-2506": ("mistral", THINK),
    "Magistral": ("mistral", "mistral"),
    "Ministral-3-14B-Reasoning": ("mistral", "mistral"),
    "Mi": ("mistral", ""),
    "Devstral": ("mistral", ""),
    "Qwen3-0.6B": ("hermes", THINK),
    "Qwen3-4B": ("hermes", THINK),
    "Qwen3": ("qwen-coder", THINK),
    "Qwen3-Coder": ("qwen-coder", ""),
}
OPENED = ("<think>", "<think>\n", "<|open|>think<|sep|>")


def test_every_failure_of_the_suite_is_known() -> None:
    families = load_families()
    failures: dict[str, str] = {}
    passed = 0
    for fixture in load_fixtures():
        status, detail = _judge(fixture, families[fixture.family])
        if status in (Status.PASS, Status.SOFT_PASS):
            passed += 1
        else:
            failures[fixture.id] = detail
    known = json.loads(KNOWN.read_text())
    reasons = {fixture: known["reasons"][key] for key, fixtures in known["failures"].items() for fixture in fixtures}
    assert set(failures) == set(reasons), "\n".join(
        f"{fixture}: {failures.get(fixture, 'passes, but is listed')}" for fixture in set(failures) ^ set(reasons)
    )
    assert passed + len(failures) == known["fixtures"]


def test_the_suite_parses_alike_character_by_character() -> None:
    families = load_families()
    for fixture in load_fixtures():
        family, text = families[fixture.family], fixture.raw_output
        if len(text) < 400:
            assert _parse(fixture, family, text) == _parse(fixture, family, [text]), fixture.id


def _judge(fixture: Fixture, family: Family) -> tuple[Status, str]:
    markers = set(family.markers)
    tokens = _tokens(fixture.raw_output, markers)
    streams = {
        strategy.id: _parse(fixture, family, map("".join, split(tokens, strategy, special=markers)))
        for strategy in STRATEGIES
    }
    observed = Observation(nonstream=_parse(fixture, family, [fixture.raw_output]), streams=streams)
    rows = checks.run_checks(fixture, family, observed)
    bad = [row for row in rows if row.status not in (Status.PASS, Status.SOFT_PASS)]
    status = worst_status(row.status for row in rows)
    return status, "; ".join(f"{row.check}[{row.strategy}]: {row.detail}" for row in bad[:2])


def _tokens(text: str, markers: set[str]) -> list[str]:
    """As a worker would stream them. We have no tokenizers: a token is a marker, or up to four characters of a word."""
    marks = sorted(markers, key=len, reverse=True)
    tokens = re.findall("|".join([*map(re.escape, marks), r"\s?\w{1,4}", r"\s?[^\w\s]", r"\s"]), text)
    assert "".join(tokens) == text
    return tokens


def _parse(fixture: Fixture, family: Family, pieces: Iterable[str]) -> ParseResult:
    parser = new_parser(_style(fixture, family), _tools(fixture.tools))
    parts: list[Part] = []
    for piece in pieces:
        parts += parser.feed(piece)
    parts += parser.end(fixture.truncated)
    return _result(parts)


def _style(fixture: Fixture, family: Family) -> OutputStyle:
    model = fixture.reference_model.rpartition("/")[2]
    tool_format, reasoning = STYLES[max((name for name in STYLES if model.startswith(name)), key=len)]
    reference = family.reference_for(fixture.reference_model)
    prompt = fixture.generation_prompt
    if prompt is None and reference is not None:
        prompt = reference.default_generation_prompt
    return OutputStyle(tool_format, reasoning, reasoning_opened=(prompt or "").endswith(OPENED))


def _tools(tools: Sequence[Any]) -> Tools:
    functions = [tool.get("function", tool) for tool in tools]
    return {function["name"]: function.get("parameters") or {} for function in functions}


def _result(parts: list[Part]) -> ParseResult:
    names = [part.name for part in parts if isinstance(part, CallBegins)]
    arguments = [
        "".join(part.text for part in parts if isinstance(part, CallArguments) and part.index == index)
        for index in range(len(names))
    ]
    return ParseResult(
        content="".join(part.text for part in parts if isinstance(part, Text)) or None,
        reasoning_content="".join(part.text for part in parts if isinstance(part, Reasoning)) or None,
        tool_calls=tuple(map(ParsedToolCall, names, arguments)),
    )
