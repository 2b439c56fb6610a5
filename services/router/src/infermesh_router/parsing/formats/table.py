"""The formats of tool calls, by name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from infermesh_router.parsing.formats.gemma import GEMMA
from infermesh_router.parsing.formats.harmony import read_harmony
from infermesh_router.parsing.formats.headed import Headed, read_mistral
from infermesh_router.parsing.formats.marked_json import MarkedJson
from infermesh_router.parsing.formats.pythonic import Pythonic
from infermesh_router.parsing.formats.tagged import DEEPSEEK_DSML, GLM, KIMI_K3, MINIMAX, QWEN_CODER, SEED
from infermesh_router.parsing.reader import Wait
from infermesh_router.parsing.turn import Body, Turn


@dataclass(frozen=True, slots=True)
class Format:
    """How a family of models writes its calls."""

    body: Body
    ends_reasoning: tuple[str, ...] = ()
    """Marks of a call that also end the reasoning: these models forget to."""


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

FORMATS: Mapping[str, Format] = {
    "": Format(_read_text),
    "deepseek": Format(_DEEPSEEK.body),
    "deepseek-dsml": Format(DEEPSEEK_DSML.body),
    "gemma": Format(GEMMA.body),
    "glm": Format(GLM.body),
    "granite": Format(_GRANITE.body),
    "harmony": Format(read_harmony),
    "hermes": Format(_HERMES.body),
    "kimi-k2": Format(_KIMI_K2.body),
    "kimi-k3": Format(KIMI_K3.body, ends_reasoning=("<|open|>response<|sep|>", "<|open|>tools<|sep|>")),
    "llama3": Format(_LLAMA3.body),
    "minimax": Format(MINIMAX.body),
    "mistral": Format(read_mistral),
    "phi4": Format(_PHI4.body),
    "pythonic": Format(Pythonic().body),
    "qwen-coder": Format(QWEN_CODER.body, ends_reasoning=("<tool_call>\n<function=",)),
    "seed": Format(SEED.body),
}
