"""Grammars that force calls: the engine's grammar code compiles them, and walks what a model would write."""

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from canitoolcall.checks import schema_errors
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.grammar import GrammarFactory
from infermesh_runtime.answer_parsing.constraint import constrain_calls
from infermesh_runtime.answer_parsing.formats.table import FORMATS
from infermesh_runtime.answer_parsing.parser import new_parser
from infermesh_runtime.answer_parsing.parts import CallArguments, CallBegins, OutputStyle, Part, Reasoning, Tools
from infermesh_runtime.chat_templates.reasoning_marks import REASONING_MARKS
from infermesh_runtime.testing.drawn_tools import draw_tools
from infermesh_runtime.testing.written_calls import TOOLS, WRITERS

NATIVE = ("deepseek", "granite", "harmony", "hermes", "kimi-k2", "llama3", "mistral", "phi4")
EVERY = pytest.mark.parametrize("form", sorted(set(FORMATS) - {""}))
WITH_TOKENS = pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "text"])
EOS = "<eos>"
MARKS = (
    *(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁sep｜>",
    ),
    *("<|tool_call|>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<think>", "</think>"),
    *("<|channel|>", "<|message|>", "<|constrain|>", "<|start|>", "<|end|>", "<|call|>"),
    *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_end|>"),
    "<|tool_call_argument_begin|>",
)
SHAPES: Tools = {
    "search": {
        "type": "object",
        "description": 'Has a "description": and more',
        "properties": {
            "description": {"type": "string", "description": "a member, not a note", "maxLength": 8},
            "limit": {"type": "integer", "minimum": 1, "maximum": 20},
            "kind": {"enum": ["web", "news"]},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": 2},
        },
        "required": ["description", "kind"],
        "$defs": {"tag": {"type": "string", "pattern": "^[a-z]{1,3}$"}},
    },
    "get_time": {},
}


class Grammars:
    """The engine's grammar code for a tokenizer of bytes and marks, which are tokens or text."""

    def __init__(self, tokens: bool) -> None:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        self.tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
        self.tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self.tokenizer.decoder = decoders.ByteLevel()
        marks = MARKS if tokens else ()
        self.tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in (EOS, *marks)])
        self.control_tokens = {mark: self._id(mark) for mark in marks}
        self.factory = GrammarFactory(self.tokenizer, {self._id(EOS)})

    def _id(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        assert found is not None
        return int(found)

    def admits(self, grammar: str | OutputFormat, text: str) -> bool:
        """Whether the masks let the text be generated, and then the end."""
        form = OutputFormat(kind="grammar", spec=grammar) if isinstance(grammar, str) else grammar
        state = self.factory.compile(form)
        for token_id in self.tokenizer.encode(text).ids:
            if state.is_finished or not _allowed(state.allowed_bits())[token_id]:
                return False
            state.consume(token_id)
        return state.is_finished or bool(_allowed(state.allowed_bits())[self._id(EOS)])

    def generate(self, grammar: str, seed: int) -> str:
        """A text that the masks allow, drawn at random; the end as soon as it may come."""
        rng, ids = random.Random(seed), list[int]()
        state = self.factory.compile(OutputFormat(kind="grammar", spec=grammar))
        while not state.is_finished and len(ids) < 4000:
            allowed = np.flatnonzero(_allowed(state.allowed_bits())).tolist()
            if self._id(EOS) in allowed:
                break
            ids.append(rng.choice(allowed))
            state.consume(ids[-1])
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))


def _allowed(bits: "np.ndarray[Any, np.dtype[np.uint8]]") -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.unpackbits(bits, bitorder="little")


@pytest.fixture(scope="module")
def grammars() -> Callable[[bool], Grammars]:
    """Both tokenizers."""
    both: Mapping[bool, Grammars] = {True: Grammars(True), False: Grammars(False)}
    return lambda tokens: both[tokens]


def calls_in(style: OutputStyle, text: str, tools: Tools) -> list[tuple[str, Any]]:
    """The calls that the parser finds, and nothing else may be in the text."""
    parser = new_parser(style, tools)
    parts: list[Part] = [*parser.feed(text), *parser.end(truncated=False)]
    names = [part.name for part in parts if isinstance(part, CallBegins)]
    arguments = [
        "".join(part.text for part in parts if isinstance(part, CallArguments) and part.index == index)
        for index in range(len(names))
    ]
    return list(zip(names, map(json.loads, arguments), strict=True))


def writer_of(form: str) -> str:
    return form if form in NATIVE else "hermes"


def written(form: str, calls: list[tuple[str, Any]]) -> str:
    """As the grammar has it: without the end of a turn, or a mark that calls may do without."""
    text = WRITERS[writer_of(form)](calls)
    for mark in ("<|start|>assistant", "<|python_tag|>", "<|call|>"):
        text = text.removeprefix(mark).removesuffix(mark)
    return text


@EVERY
@WITH_TOKENS
def test_a_forced_call(form: str, tokens: bool, grammars: Callable[[bool], Grammars]) -> None:
    engine = grammars(tokens)
    constraint = constrain_calls(OutputStyle(form), TOOLS, engine.control_tokens, parallel=False)
    assert constraint.style.tool_format == writer_of(form)
    text = written(form, [("get_weather", {"city": "Paris"})])
    if form == "mistral" and not tokens:  # the models without [ARGS] write arrays
        text = '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}}]'
    elif form == "granite" and not tokens:  # and the Granites without the token write it so
        text = text.replace("<|tool_call|>", "<tool_call>")
    assert engine.admits(constraint.grammar, text)
    assert calls_in(constraint.style, text, TOOLS) == [("get_weather", {"city": "Paris"})]
    assert not engine.admits(constraint.grammar, "Hello")
    assert not engine.admits(constraint.grammar, "")
    assert not engine.admits(constraint.grammar, text.replace("get_weather", "no_such_tool"))
    assert not engine.admits(constraint.grammar, text.replace('"Paris"', "1"))
    assert not engine.admits(constraint.grammar, text.replace("city", "town"))


@pytest.mark.parametrize("form", sorted(set(NATIVE) - {"harmony"}))
def test_several_calls_only_in_parallel(form: str, grammars: Callable[[bool], Grammars]) -> None:
    engine = grammars(True)
    calls: list[tuple[str, Any]] = [("get_weather", {"city": "Paris"}), ("get_time", {})]
    text = written(form, calls)
    single = constrain_calls(OutputStyle(form), TOOLS, engine.control_tokens, parallel=False)
    several = constrain_calls(OutputStyle(form), TOOLS, engine.control_tokens, parallel=True)
    assert not engine.admits(single.grammar, text)
    assert engine.admits(several.grammar, text)
    assert calls_in(several.style, text, TOOLS) == calls


@pytest.mark.parametrize("opened", [True, False])
@WITH_TOKENS
def test_reasoning_comes_first(tokens: bool, opened: bool, grammars: Callable[[bool], Grammars]) -> None:
    engine = grammars(tokens)
    style = OutputStyle("hermes", "think", reasoning_opened=opened)
    constraint = constrain_calls(style, TOOLS, engine.control_tokens, parallel=True)
    call = written("hermes", [("get_time", {})])
    text = f'{"" if opened else "<think>"}\nI think {{"name": 1}}.\n</think>\n\n{call}'
    assert engine.admits(constraint.grammar, text)
    assert engine.admits(constraint.grammar, call) != opened
    assert not engine.admits(constraint.grammar, text.replace(call, "Hello"))
    parser = new_parser(constraint.style, TOOLS)
    assert Reasoning('I think {"name": 1}.') in parser.feed(text)


@pytest.mark.parametrize("family", sorted(REASONING_MARKS))
def test_every_familys_reasoning_compiles(family: str, grammars: Callable[[bool], Grammars]) -> None:
    engine = grammars(False)
    constraint = constrain_calls(OutputStyle("hermes", family), TOOLS, {}, parallel=True)
    marks = REASONING_MARKS[family]
    text = f"{marks.begins[0]}so{marks.ends[0]}{written('hermes', [('get_time', {})])}"
    assert engine.admits(constraint.grammar, text)


def test_harmony_thinks_in_its_channel(grammars: Callable[[bool], Grammars]) -> None:
    engine = grammars(True)
    constraint = constrain_calls(OutputStyle("harmony"), TOOLS, engine.control_tokens, parallel=True)
    call = written("harmony", [("get_time", {})])
    assert engine.admits(constraint.grammar, f"<|channel|>analysis<|message|>so<|end|><|start|>assistant{call}")
    assert not engine.admits(constraint.grammar, "<|channel|>final<|message|>Hello")


@pytest.mark.parametrize("form", NATIVE)
def test_whatever_is_drawn_validates(form: str, grammars: Callable[[bool], Grammars]) -> None:
    engine = grammars(True)
    constraint = constrain_calls(OutputStyle(form), SHAPES, engine.control_tokens, parallel=True)
    for seed in range(3):
        text = engine.generate(constraint.grammar, seed)
        calls = calls_in(constraint.style, text, SHAPES)
        assert calls
        for name, arguments in calls:
            assert not schema_errors(SHAPES[name] or {"type": "object", "maxProperties": 0}, arguments)


@pytest.mark.parametrize("form", NATIVE)
def test_forced_calls_of_drawn_tools_validate(form: str, grammars: Callable[[bool], Grammars]) -> None:
    """A hundred of a hundred, over all families: each draws its own."""
    engine, share = grammars(True), 100 // len(NATIVE) + 1
    for seed in range(NATIVE.index(form) * share, (NATIVE.index(form) + 1) * share):
        tools = draw_tools(seed)
        constraint = constrain_calls(OutputStyle(form), tools, engine.control_tokens, parallel=False)
        ((name, arguments),) = calls_in(constraint.style, engine.generate(constraint.grammar, seed), tools)
        assert not schema_errors(tools[name] or {"type": "object", "maxProperties": 0}, arguments), seed
