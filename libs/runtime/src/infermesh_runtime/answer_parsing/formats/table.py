"""The formats of tool calls, by name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from infermesh_runtime.answer_parsing.formats.gemma import GEMMA
from infermesh_runtime.answer_parsing.formats.harmony import read_harmony
from infermesh_runtime.answer_parsing.formats.headed import Headed, read_mistral
from infermesh_runtime.answer_parsing.formats.marked_json import MarkedJson
from infermesh_runtime.answer_parsing.formats.pythonic import Pythonic
from infermesh_runtime.answer_parsing.formats.tagged import DEEPSEEK_DSML, GLM, KIMI_K3, MINIMAX, QWEN_CODER, SEED
from infermesh_runtime.answer_parsing.reader import Wait
from infermesh_runtime.answer_parsing.turn import Body, Turn


@dataclass(frozen=True, slots=True)
class Format:
    """How a family of models writes its calls."""

    body: Body
    ends_reasoning: tuple[str, ...] = ()
    """Marks of a call that also end the reasoning: these models forget to."""
    marks: tuple[str, ...] = ()
    """Marks that are special tokens in some of the models: an engine must show them for the parser to see them."""
    channels: bool = False
    """Whether its marks also say what is text and what is reasoning, so that answers without tools are parsed too."""


def _read_text(turn: Turn) -> Wait[None]:
    while True:
        turn.answer.text(turn.reader.take(len(turn.reader.text)))
        if turn.reader.ended:
            return
        yield


_DEEPSEEK = Headed(
    section="<｜tool▁calls▁begin｜>",
    section_end="<｜tool▁calls▁end｜>",
    call="<｜tool▁call▁begin｜>",
    separator="<｜tool▁sep｜>",
    name=re.compile(r"\A(\S+)"),
)
_KIMI_K2 = Headed(
    section="<|tool_calls_section_begin|>",
    section_end="<|tool_calls_section_end|>",
    call="<|tool_call_begin|>",
    separator="<|tool_call_argument_begin|>",
    name=re.compile(r"\A(?:functions\.)?(.+?)(?::\d+)?\Z"),
)
_HERMES = MarkedJson(("<tool_call>", "<tools>"), ("</tool_call>", "</tools>"), bare=True, doubted=("<tools>",))
_LLAMA3 = MarkedJson(("<|python_tag|>",), ("<|eom_id|>",), bare=True, bare_array=True)
_PHI4 = MarkedJson(("functools[", "<|tool_call|>"), ("<|/tool_call|>",))
_GRANITE = MarkedJson(("<|tool_call|>", "<tool_call>"), ("</tool_call>", "<|/tool_call|>"))

_OTHERS = MarkedJson(
    ("<TOOLCALL>", "<tool_calls>", "<|START_ACTION|>", "<|action_start|><|plugin|>"),
    ("</TOOLCALL>", "</tool_calls>", "<|END_ACTION|>", "<|action_end|>"),
)
_HARMONY_MARKS = ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>")
_GLM_MARKS = ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")

FORMATS: Mapping[str, Format] = {
    "": Format(_read_text),
    "deepseek": Format(_DEEPSEEK.body, marks=(*_DEEPSEEK.marks, "<｜tool▁call▁end｜>")),
    "deepseek-dsml": Format(DEEPSEEK_DSML.body, marks=("｜DSML｜",)),
    "gemma": Format(GEMMA.body, marks=("<|tool_call>", "<tool_call|>", '<|"|>')),
    "glm": Format(GLM.body, marks=_GLM_MARKS),
    "granite": Format(_GRANITE.body, marks=_GRANITE.marks),
    "harmony": Format(read_harmony, marks=_HARMONY_MARKS, channels=True),
    "hermes": Format(_HERMES.body, marks=_HERMES.marks),
    "kimi-k2": Format(_KIMI_K2.body, marks=(*_KIMI_K2.marks, "<|tool_call_end|>")),
    "kimi-k3": Format(
        KIMI_K3.body,
        ends_reasoning=("<|open|>response<|sep|>", "<|open|>tools<|sep|>"),
        marks=("<|open|>", "<|close|>", "<|sep|>"),
        channels=True,
    ),
    "llama3": Format(_LLAMA3.body, marks=_LLAMA3.marks),
    "marked-json": Format(_OTHERS.body, marks=(*_OTHERS.marks, "<|action_start|>", "<|plugin|>")),
    "minimax": Format(MINIMAX.body, marks=MINIMAX.wrappers),
    "mistral": Format(read_mistral, marks=("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]")),
    "phi4": Format(_PHI4.body, marks=_PHI4.marks),
    "pythonic": Format(Pythonic().body, marks=Pythonic.marks),
    "qwen-coder": Format(
        QWEN_CODER.body, ends_reasoning=("<tool_call>\n<function=",), marks=("<tool_call>", "</tool_call>")
    ),
    "seed": Format(SEED.body, marks=("<seed:tool_call>", "</seed:tool_call>")),
}
