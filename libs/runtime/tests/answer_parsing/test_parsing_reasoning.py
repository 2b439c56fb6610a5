"""Reasoning in front of an answer: every family's marks, opened by the prompt or not, cut off, and trimmed."""

from collections.abc import Sequence

import pytest

from infermesh_runtime.answer_parsing.parser import new_parser
from infermesh_runtime.answer_parsing.parts import OutputStyle, Part, Reasoning, Text
from infermesh_runtime.chat_templates.reasoning_marks import REASONING_MARKS, opens_reasoning

EVERY = pytest.mark.parametrize("family", sorted(REASONING_MARKS))


def parse(style: OutputStyle, pieces: Sequence[str], *, truncated: bool = False) -> tuple[str, str]:
    """The reasoning and the text."""
    parser = new_parser(style, {})
    parts: list[Part] = [part for piece in pieces for part in parser.feed(piece)]
    parts += parser.end(truncated)
    thought = "".join(part.text for part in parts if isinstance(part, Reasoning))
    return thought, "".join(part.text for part in parts if isinstance(part, Text))


def both(style: OutputStyle, text: str, *, truncated: bool = False) -> tuple[str, str]:
    """What a text parses to, whole and by characters."""
    whole = parse(style, [text], truncated=truncated)
    assert parse(style, list(text), truncated=truncated) == whole
    return whole


@EVERY
def test_between_the_marks(family: str) -> None:
    begin, end = REASONING_MARKS[family].begins[0], REASONING_MARKS[family].ends[0]
    style = OutputStyle(reasoning=family)
    assert both(style, f"\n{begin}\nI think\n so.\n{end}\n\nHello.\n") == ("I think\n so.", "Hello.")


@EVERY
def test_opened_by_the_prompt(family: str) -> None:
    end = REASONING_MARKS[family].ends[0]
    style = OutputStyle(reasoning=family, reasoning_opened=True)
    assert both(style, f"\nI think.{end}Hello.") == ("I think.", "Hello.")


@EVERY
def test_cut_off_inside(family: str) -> None:
    style = OutputStyle(reasoning=family)
    assert both(style, f"{REASONING_MARKS[family].begins[0]}I thi", truncated=True) == ("I thi", "")


@EVERY
def test_an_answer_without_it(family: str) -> None:
    style = OutputStyle(reasoning=family)
    assert both(style, " Hello, <b>you</b>.\n") == ("", " Hello, <b>you</b>.\n")


@EVERY
def test_empty(family: str) -> None:
    begin, end = REASONING_MARKS[family].begins[0], REASONING_MARKS[family].ends[0]
    assert both(OutputStyle(reasoning=family), f"{begin}\n\n{end}\n\nHello.") == ("", "Hello.")


def test_it_streams() -> None:
    parser = new_parser(OutputStyle(reasoning="think"), {})
    assert parser.feed("<think>\nI") == [Reasoning("I")]
    assert parser.feed(" think </") == [Reasoning(" think")]
    assert parser.feed("b>") == [Reasoning(" </b>")]
    assert parser.feed("\n</think>") == []
    assert parser.feed("\n\nSo") == [Text("So")]


def test_a_later_mark_is_text() -> None:
    style = OutputStyle(reasoning="think")
    assert both(style, "Write <think> to think.") == ("", "Write <think> to think.")


def test_harmony_has_channels() -> None:
    text = "<|channel|>analysis<|message|>I think.<|end|><|start|>assistant<|channel|>final<|message|>Hello."
    assert both(OutputStyle("harmony"), text) == ("I think.", "Hello.")


@EVERY
def test_a_prompt_that_opens_it(family: str) -> None:
    begin, end = REASONING_MARKS[family].begins[0], REASONING_MARKS[family].ends[0]
    assert opens_reasoning(f"assistant\n{begin}\n", family)
    assert not opens_reasoning(f"assistant\n{begin}\n\n{end}\n\n", family)
    assert not opens_reasoning("assistant\n", family)
    assert not opens_reasoning(f"assistant\n{begin}", "")
