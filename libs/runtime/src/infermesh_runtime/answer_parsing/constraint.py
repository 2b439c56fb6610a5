"""Grammars that force a model to call tools, so that names and arguments are always valid."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from infermesh_runtime.answer_parsing.parts import OutputStyle, Tools
from infermesh_runtime.chat_templates.reasoning_marks import REASONING_MARKS

_NOT_VALIDATING = frozenset({"description", "title", "examples", "default", "deprecated", "$comment", "$schema", "$id"})
"""Keywords that say nothing about validity; the engine bounds a grammar's size."""
_NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
_WHITE_SPACE = {"whitespace_pattern": r"(\x20|\n{1,2}[\x20\t]{0,20})"}
"""As for JSON schemas in the engine: without a bound, small models pad their JSON until max_tokens."""
_SPACES = r"/[\x20\n]{0,4}/"
_ANY_TEXT = "/(?s:.*)/"


@dataclass(frozen=True, slots=True)
class CallConstraint:
    """What an answer with a forced call looks like."""

    grammar: str
    """In llguidance's Lark syntax, for `OutputFormat.grammar`."""
    style: OutputStyle
    """How to parse it. Not always as the model writes calls by itself: see `constrain_calls`."""


def constrain_calls(
    style: OutputStyle, tools: Tools, control_tokens: Mapping[str, int], *, parallel: bool
) -> CallConstraint:
    """Forces calls of these tools, after reasoning if the style has some: one call, or with `parallel` at least one.

    `tools` are those that may be called: one when the request names it. They must not be empty. `control_tokens` maps
    the tokens to their ids that the engine tells from text: marks among them are tokens in the grammar, others text.

    Calls are JSON where the family writes JSON. Families that write tags, Python or channels of their own write calls
    in Hermes' format instead: values without quotes could not be held to every schema.
    """
    family = forced_format(style)
    grammar = _Grammar(control_tokens, tools, parallel)
    start = _FAMILIES[family](grammar)
    before = _reasoning(grammar, style)
    rules = [f"start: {before} {start}", *grammar.rules]
    return CallConstraint("\n".join(rules) + "\n", replace(style, tool_format=family))


def forced_format(style: OutputStyle) -> str:
    """The format in which calls are forced: the family's own, or that of Hermes, see `constrain_calls`."""
    return style.tool_format if style.tool_format in _FAMILIES else "hermes"


def reasoning_rules(style: OutputStyle, control_tokens: Mapping[str, int]) -> str:
    """The rules of a grammar, one of them called `before`, for what may come before an answer: its reasoning.

    Empty if nothing may. `control_tokens` as for `constrain_calls`.
    """
    grammar = _Grammar(control_tokens, {}, parallel=False)
    if style.tool_format == "harmony":
        final = grammar.text("<|channel|>", "final", "<|message|>")
        before = f"{_harmony_analysis(grammar)} {final}"
    elif style.reasoning:
        before = _reasoning(grammar, style)
    else:
        return ""
    return "\n".join((f"before: {before}", *grammar.rules)) + "\n"


class _Grammar:
    """The rules of a grammar, as they are asked for."""

    def __init__(self, control_tokens: Mapping[str, int], tools: Tools, parallel: bool) -> None:
        self.rules: list[str] = []
        self._control_tokens = control_tokens
        self._tools = tools
        self._parallel = parallel

    def has(self, mark: str) -> bool:
        """Whether the model has a token for a mark."""
        return mark in self._control_tokens

    def text(self, *marks: str) -> str:
        """The marks in a row: tokens where the model has them, and text otherwise."""
        return " ".join(
            f"<[{self._control_tokens[mark]}]>" if self.has(mark) else json.dumps(mark) for mark in marks if mark
        )

    def calls(self, write: Callable[[str, str], str], *, between: str = "", single: bool = False) -> str:
        """One call, or several with something between them. `write` makes a call of a name and its arguments' rule."""
        options = []
        for index, (name, schema) in enumerate(self._tools.items()):
            rule = f"arguments_{index}"
            self.rules.append(f"{rule}: %json {_schema_text(schema)}")
            options.append(write(name, rule))
        self.rules.append("call: " + "\n    | ".join(options))
        if single or not self._parallel:
            return "call"
        return f"call ({self.text(between)} call)*" if between else "call+"

    def thought(self, end: str) -> str:
        """Any text, and the mark that ends it."""
        if self.has(end):
            self.rules.append(f"thought: {_ANY_TEXT}")
            return f"thought {self.text(end)}"
        self.rules.append(f"thought[suffix={json.dumps(end)}]: {_ANY_TEXT}")
        return "thought"


def _object(grammar: _Grammar, key: str = "arguments") -> Callable[[str, str], str]:
    def write(name: str, rule: str) -> str:
        head = f'{{"name": {json.dumps(name)}, "{key}": '
        return f"{grammar.text(head)} {rule} {grammar.text('}')}"

    return write


def _hermes(grammar: _Grammar) -> str:
    write = _object(grammar)
    begin, end = grammar.text("<tool_call>", "\n"), grammar.text("\n", "</tool_call>")
    return grammar.calls(lambda name, rule: f"{begin} {write(name, rule)} {end}", between="\n")


def _llama3(grammar: _Grammar) -> str:
    return grammar.calls(_object(grammar, "parameters"), between="; ")


def _array(grammar: _Grammar, *before: str) -> str:
    return f"{grammar.text(*before, '[')} {grammar.calls(_object(grammar), between=', ')} {grammar.text(']')}"


def _granite(grammar: _Grammar) -> str:
    return _array(grammar, "<|tool_call|>" if grammar.has("<|tool_call|>") else "<tool_call>")


def _mistral(grammar: _Grammar) -> str:
    if not grammar.has("[ARGS]"):  # before version 11
        return _array(grammar, "[TOOL_CALLS]")
    return grammar.calls(lambda name, rule: f"{grammar.text('[TOOL_CALLS]', name, '[ARGS]')} {rule}")


def _deepseek(grammar: _Grammar) -> str:
    end = grammar.text("<｜tool▁call▁end｜>")

    def write(name: str, rule: str) -> str:
        return f"{grammar.text('<｜tool▁call▁begin｜>', name, '<｜tool▁sep｜>')} {rule} {end}"

    return f"{grammar.text('<｜tool▁calls▁begin｜>')} {grammar.calls(write)} {grammar.text('<｜tool▁calls▁end｜>')}"


def _kimi(grammar: _Grammar) -> str:
    def write(name: str, rule: str) -> str:
        begin = grammar.text("<|tool_call_begin|>", f"functions.{name}:")
        return (
            f"{begin} /[0-9]{{1,3}}/ {grammar.text('<|tool_call_argument_begin|>')} {rule} "
            f"{grammar.text('<|tool_call_end|>')}"
        )

    calls = grammar.calls(write)
    return f"{grammar.text('<|tool_calls_section_begin|>')} {calls} {grammar.text('<|tool_calls_section_end|>')}"


def _harmony(grammar: _Grammar) -> str:
    def write(name: str, rule: str) -> str:
        header = ("<|channel|>", f"commentary to=functions.{name} ", "<|constrain|>", "json", "<|message|>")
        return f"{grammar.text(*header)} {rule}"

    call = grammar.calls(write, single=True)  # a call ends the model's turn
    return f"{_harmony_analysis(grammar)} {call}"


def _harmony_analysis(grammar: _Grammar) -> str:
    thought = grammar.thought("<|end|>")
    analysis = grammar.text("<|channel|>", "analysis", "<|message|>")
    return f"({analysis} {thought} {grammar.text('<|start|>', 'assistant')})?"


_FAMILIES: Mapping[str, Callable[[_Grammar], str]] = {
    "deepseek": _deepseek,
    "granite": _granite,
    "harmony": _harmony,
    "hermes": _hermes,
    "kimi-k2": _kimi,
    "llama3": _llama3,
    "mistral": _mistral,
    "phi4": lambda grammar: _array(grammar, "functools"),
}


def _reasoning(grammar: _Grammar, style: OutputStyle) -> str:
    """What may come before the calls."""
    if not style.reasoning:
        return ""
    marks = REASONING_MARKS[style.reasoning]
    thought = grammar.thought(marks.ends[0])
    if style.reasoning_opened:
        return f"{thought} {_SPACES}"
    return f"({grammar.text(marks.begins[0])} {thought} {_SPACES})?"


def _schema_text(schema: Mapping[str, Any]) -> str:
    """The schema of a tool's arguments for the grammar engine. Members that it does not list are forbidden."""
    kept = _without_notes(schema) if schema else dict(_NO_ARGUMENTS)
    kept.setdefault("type", "object")
    if "properties" in kept and not kept.keys() & {"allOf", "anyOf", "oneOf", "$ref", "unevaluatedProperties"}:
        kept.setdefault("additionalProperties", False)
    return json.dumps({**kept, "x-guidance": _WHITE_SPACE}, ensure_ascii=False, separators=(",", ":"))


def _without_notes(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without what only describes it. The names of members are not keywords, whatever they are."""
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"):
            kept[key] = {name: _cleaned(part) for name, part in value.items()} if isinstance(value, Mapping) else value
        elif key in ("enum", "const"):
            kept[key] = value
        elif key not in _NOT_VALIDATING:
            kept[key] = [_cleaned(part) for part in value] if isinstance(value, list) else _cleaned(value)
    return kept


def _cleaned(value: Any) -> Any:
    return _without_notes(value) if isinstance(value, Mapping) else value
