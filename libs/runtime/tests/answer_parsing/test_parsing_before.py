"""What may come before an answer that has a format: the reasoning, as the model's family marks it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from infermesh_engine.requests.request import OutputFormat
from infermesh_runtime.answer_parsing.constraint import reasoning_rules
from infermesh_runtime.answer_parsing.parser import known_style, new_parser
from infermesh_runtime.answer_parsing.parts import OutputStyle, Reasoning, Text
from infermesh_runtime.chat_templates.reasoning_marks import REASONING_MARKS

from .test_parsing_constraint import Grammars

DIGITS = OutputFormat(kind="regex", spec="[0-9]+")
HARMONY = OutputStyle("harmony")
ANALYSIS = "<|channel|>analysis<|message|>Hm: 3?<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"


@pytest.fixture(scope="module")
def grammars() -> Callable[[bool], Grammars]:
    both = {tokens: Grammars(tokens) for tokens in (True, False)}
    return lambda tokens: both[tokens]


def check(engine: Grammars, style: OutputStyle, *, good: str, bad: str) -> None:
    """The format admits one text and not the other, and the parser finds reasoning and answer in the first."""
    form = replace(DIGITS, before=reasoning_rules(style, engine.control_tokens))
    assert engine.admits(form, good)
    assert not engine.admits(form, bad)
    parser = new_parser(style, {})
    parts = [*parser.feed(good), *parser.end(truncated=False)]
    assert "".join(part.text for part in parts if isinstance(part, Text)) == "42"
    assert "".join(part.text for part in parts if isinstance(part, Reasoning)).strip() in ("", "Hm: 3?")


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "text"])
@pytest.mark.parametrize("name", sorted(REASONING_MARKS))
def test_the_reasoning_of_each_family(name: str, tokens: bool, grammars: Callable[[bool], Grammars]) -> None:
    marks, engine = REASONING_MARKS[name], grammars(tokens)
    begin, end = marks.begins[0], marks.ends[0]
    closed, opened = OutputStyle("", name), OutputStyle("", name, reasoning_opened=True)
    check(engine, closed, good=f"{begin}Hm: 3?{end}\n\n42", bad=f"{begin}Hm: 3?{end}\n\nno")
    check(engine, closed, good="42", bad="Hm: 3?")
    check(engine, opened, good=f"Hm: 3?{end}42", bad="42")


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "text"])
def test_harmony_answers_in_its_final_channel(tokens: bool, grammars: Callable[[bool], Grammars]) -> None:
    engine = grammars(tokens)
    check(engine, HARMONY, good=f"{ANALYSIS}{FINAL}42", bad=f"{ANALYSIS}{FINAL}no")
    check(engine, HARMONY, good=f"{FINAL}42", bad="42")


def test_nothing_comes_before_an_answer_without_reasoning() -> None:
    assert reasoning_rules(OutputStyle("hermes"), {}) == ""


def test_what_is_not_offered_or_not_known_counts_as_text() -> None:
    def known(form: str, marks: str, *, tools: bool) -> OutputStyle:
        return known_style(form, marks, reasoning_opened=True, offers_tools=tools)

    assert known("hermes", "think", tools=True) == OutputStyle("hermes", "think", reasoning_opened=True)
    assert known("hermes", "", tools=False) == OutputStyle()
    assert known("harmony", "", tools=False) == HARMONY
    assert known("of-2030", "of-2031", tools=True) == OutputStyle()
