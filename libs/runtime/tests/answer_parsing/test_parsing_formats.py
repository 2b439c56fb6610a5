"""Each format of tool calls in each situation that misleads parsers, however the text is split."""

import random
import re
from typing import Any

import pytest

from infermesh_runtime.answer_parsing.formats.table import FORMATS
from infermesh_runtime.answer_parsing.parser import marks_of, new_parser
from infermesh_runtime.answer_parsing.parts import CallArguments, CallBegins, CallEnds, OutputStyle, Text
from infermesh_runtime.chat_templates.detect import DETECTED_FORMATS
from infermesh_runtime.testing.written_calls import TOOLS, WRITERS

from .joined import Joined, join, parse

EVERY = pytest.mark.parametrize("form", sorted(WRITERS))
HELD = {"deepseek-dsml", "gemma", "glm", "kimi-k3", "minimax", "pythonic", "qwen-coder", "seed"}
"""Formats of which a call is read as a whole. The others stream the arguments."""
PARIS = ("get_weather", {"city": "Paris", "days": 3})
TRICKY = "a } ] ) \"quoted\" 'single' {b: [1]} \\ back\nline é 東京 🌸 </x> [TOOL_CALL] <|x|>"


def content(form: str, text: str) -> str:
    """The text as content of the answer, where a format puts that into a channel."""
    return f"<|channel|>final<|message|>{text}<|end|>" if form == "harmony" and text else text


def test_every_format_is_tested() -> None:
    assert set(WRITERS) == set(FORMATS) - {""}


@EVERY
def test_the_marks_that_an_engine_must_show(form: str) -> None:
    marks = marks_of(OutputStyle(form, "think"))
    written = re.findall(r"<[^\s<>=]+>|\[[A-Z_]{2,}\]", WRITERS[form]([PARIS]))
    tags = {"</function>", "</parameter>", "</invoke>"}  # these are text, and told from each other by what follows
    assert {"<think>", "</think>"} < marks
    assert all(mark in marks or mark in tags or "｜DSML｜" in mark for mark in written)


@EVERY
def test_one_call(form: str) -> None:
    assert parse(form, WRITERS[form]([PARIS])) == Joined(calls=[PARIS], complete=[True])


@EVERY
def test_two_calls_in_one_turn(form: str) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [PARIS, ("get_weather", {"city": "Oslo"})]
    assert parse(form, WRITERS[form](calls)).calls == calls


@EVERY
def test_a_call_without_arguments(form: str) -> None:
    assert parse(form, WRITERS[form]([("get_time", {}), PARIS])).calls == [("get_time", {}), PARIS]


@EVERY
def test_text_before_and_after(form: str) -> None:
    text = f"{content(form, 'I look. ')}{WRITERS[form]([PARIS])}{content(form, ' Done.')}"
    joined = parse(form, text)
    assert joined.calls == [PARIS]
    assert joined.text == "I look.  Done."


@EVERY
def test_strings_may_contain_anything(form: str) -> None:
    call = ("get_weather", {"city": TRICKY, "days": -1})
    assert parse(form, WRITERS[form]([call, PARIS])).calls == [call, PARIS]


@EVERY
def test_a_string_may_contain_another_call(form: str) -> None:
    inner = WRITERS["hermes" if form != "hermes" else "qwen-coder"]([PARIS])
    call = ("get_weather", {"city": f"see {inner} there"})
    assert parse(form, WRITERS[form]([call])).calls == [call]


@pytest.mark.parametrize("form", sorted(HELD))
@pytest.mark.parametrize("odd", [None, 3, {"a": 1}])
def test_keywords_of_a_schema_that_hold_no_list_say_nothing(form: str, odd: Any) -> None:
    days = {"type": "integer"} | dict.fromkeys(("enum", "anyOf", "oneOf", "allOf"), odd)
    tools = {"get_weather": {"type": "object", "properties": {"city": {"type": "string"}, "days": days}}}
    assert parse(form, WRITERS[form]([PARIS]), tools=tools).calls == [PARIS]


@EVERY
def test_unicode_escapes(form: str) -> None:
    escaped, text = r"Z\u00fcrich \ud83c\udf38", "Zürich 🌸"
    written = WRITERS[form]([("get_weather", {"city": "MARK"})]).replace("MARK", escaped)
    quotes_are_json = form not in HELD or form == "pythonic"
    if form == "pythonic":
        escaped, text = r"Z\u00fcrich \U0001f338", "Zürich 🌸"
        written = WRITERS[form]([("get_weather", {"city": "MARK"})]).replace("MARK", escaped)
    assert parse(form, written).calls == [("get_weather", {"city": text if quotes_are_json else escaped})]


@EVERY
def test_a_call_cut_off_by_the_limit(form: str) -> None:
    written = WRITERS[form]([PARIS, ("get_weather", {"city": "Reykjavik"})])
    cut = content(form, "I look.") + written[: written.index("kjavik")]
    joined = parse(form, cut, truncated=True)
    assert joined.text == "I look."  # no mark of the broken call is in it
    if form == "pythonic":
        assert joined.calls == []  # the list of calls is one expression
    elif form in HELD:
        assert joined.calls == [PARIS]
    else:
        assert joined.calls[0] == PARIS
        assert joined.calls[1][0] == "get_weather"
        assert joined.calls[1][1].startswith('{"city": "Rey')
        assert joined.complete == [True, False]


@EVERY
def test_a_call_cut_off_before_its_arguments(form: str) -> None:
    written = WRITERS[form]([PARIS])
    joined = parse(form, written[: written.index("weather") + 3], truncated=True)
    assert joined == Joined()


@EVERY
def test_a_marked_call_of_an_unknown_tool_is_passed_on(form: str) -> None:
    call = ("no_such_tool", {"city": "Paris"})
    assert parse(form, WRITERS[form]([call])).calls == [call]


@EVERY
def test_damaged_calls_end_alike_however_they_are_split(form: str) -> None:
    rng = random.Random(form)
    written = WRITERS[form]([PARIS, PARIS])
    for _ in range(8):
        at, size = rng.randrange(len(written)), rng.randrange(4)
        damage = rng.choice(["", " ", "}", "]", '"', "\n", "<", "</tool_call>", "<tool_call>", "text", *WRITERS])
        for truncated in (False, True):
            parse(form, written[:at] + damage + written[at + size :], truncated=truncated)
            parse(form, written[:at] + damage, truncated=truncated)


@pytest.mark.timeout(30)
@EVERY
def test_long_runs_cost_no_more_than_their_length(form: str) -> None:
    """What is quadratic in the length of a value takes longer than the limit."""
    for text in (" " * 99_000, "\\" * 9_000, "\n</parameter" * 3_000):
        call = ("get_weather", {"city": f"a{text}b"})
        parser = new_parser(OutputStyle(form), TOOLS)
        written = WRITERS[form]([call])
        parts = [part for at in range(0, len(written), 100) for part in parser.feed(written[at : at + 100])]
        joined = join([*parts, *parser.end(truncated=False)])
        assert joined.calls == [call]


def test_arguments_stream_as_they_come() -> None:
    parser = new_parser(OutputStyle("hermes"), TOOLS)
    assert parser.feed('<tool_call>\n{"name": "get_weather", "arg') == []
    assert parser.feed('uments": {"city": "Pa') == [CallBegins(0, "get_weather"), CallArguments(0, '{"city": "Pa')]
    assert parser.feed("ri") == [CallArguments(0, "ri")]
    assert parser.feed('s"}}\n') == [CallArguments(0, 's"}'), CallEnds(0, complete=True)]
    assert parser.feed("</tool_call>") == []
    assert parser.end(truncated=False) == []


def test_text_streams_at_once_where_no_mark_can_begin() -> None:
    parser = new_parser(OutputStyle("hermes", "think"), TOOLS)
    assert parser.feed("Hello") == [Text("Hello")]
    assert parser.feed(" there <tool") == [Text(" there")]
    assert parser.feed("ing>") == [Text(" <tooling>")]


def test_every_format_that_templates_show_has_a_parser() -> None:
    assert set(DETECTED_FORMATS) == set(FORMATS) - {""}
