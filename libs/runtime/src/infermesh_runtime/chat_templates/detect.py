"""Finds how a model writes tool calls and reasoning, from what its chat template makes of a conversation."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infermesh_runtime.chat_templates.chat_template import ChatTemplate, Message
from infermesh_runtime.chat_templates.reasoning_marks import REASONING_MARKS
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.answer_style import AnswerStyle

_TOOL, _KEY, _VALUE, _QUESTION = "tool7q3x", "key7q3x", "value7q3x", "question7q3x"
_ARGUMENTS = {_KEY: _VALUE}
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": _TOOL,
            "description": "A probe.",
            "parameters": {"type": "object", "properties": {_KEY: {"type": "string"}}, "required": [_KEY]},
        },
    }
]
_FORMATS = (
    ("deepseek", r"<｜tool▁call▁begin｜>"),
    ("deepseek-dsml", r"｜DSML｜"),
    ("kimi-k2", r"<\|tool_call_begin\|>"),
    ("kimi-k3", r"<\|open\|>(?:call|tools)\b"),
    ("harmony", r"to=functions\.|<\|channel\|>commentary"),
    ("mistral", r"\[TOOL_CALLS\]"),
    ("phi4", r"functools\["),
    ("gemma", r"<\|tool_call>"),
    ("seed", r"<seed:tool_call>"),
    ("glm", r"<arg_key>"),
    ("minimax", r"<minimax:tool_call>"),
    ("qwen-coder", r"<function="),
    ("granite", r"<\|tool_call\|>|<tool_call>\s*\["),
    ("marked-json", r"<TOOLCALL>|<tool_calls>|<\|START_ACTION\|>|<\|action_start\|>"),
    ("hermes", r"<tool_call>"),
    ("llama3", r"<\|python_tag\|>"),
    ("pythonic", rf"<\|python_start\|>|<\|tool_call_start\|>|<function_calls>|\[{_TOOL}\("),
)
"""Each format's mark. The first that is there counts, so marks that others contain come last."""
_BARE = (
    ("llama3", rf'\{{\s*"name":\s*"{_TOOL}",\s*"parameters"'),
    ("hermes", rf'\{{\s*"name":\s*"{_TOOL}",\s*"arguments"'),
    ("pythonic", rf"{_TOOL}\({_KEY}\s*="),
)
"""How a call without a mark looks."""


DETECTED_FORMATS = tuple(name for name, _pattern in _FORMATS)
"""The names of all formats that can be found."""


def detect_style(template: ChatTemplate, source: str, control_tokens: Sequence[str] = ()) -> AnswerStyle:
    """What the template says. It renders the template, which nothing bounds: `examine_template` does.

    What comes out of a conversation with a tool call counts most, then the marks that the source contains. Control
    tokens decide nothing on their own, because a vocabulary serves several generations of models, except for
    a template without tools of a model that has control tokens for them.
    """
    tool_format = _rendered_format(template) or _first(_FORMATS, _without_comments(source))
    if not tool_format and "[TOOL_CALLS]" in control_tokens:
        tool_format = "mistral"
    return AnswerStyle(tool_format, _reasoning(source, control_tokens, tool_format))


def _rendered_format(template: ChatTemplate) -> str:
    for messages in _dialogs():
        try:
            text = template.render(messages, tools=_TOOLS, add_generation_prompt=False).text
        except InvalidArgument:
            continue
        answer = text.rpartition(_QUESTION)[2]
        if _TOOL in answer:
            return _first((*_FORMATS, *_BARE), answer)
    return ""


def _dialogs() -> Iterator[list[Message]]:
    """Conversations with a call. Templates differ in whether they take its arguments as an object or as text."""
    for arguments in (_ARGUMENTS, json.dumps(_ARGUMENTS)):
        for content in ("", None):
            function: Mapping[str, Any] = {"name": _TOOL, "arguments": arguments}
            call = {"id": "call00001", "type": "function", "function": function}
            asked = {"role": "user", "content": _QUESTION}
            called = {"role": "assistant", "content": content, "tool_calls": [call]}
            result = {"role": "tool", "tool_call_id": "call00001", "name": _TOOL, "content": "done"}
            yield [asked, called]
            yield [asked, called, result]


def _reasoning(source: str, control_tokens: Sequence[str], tool_format: str) -> str:
    if tool_format == "harmony":
        return ""  # its channels say what is reasoning
    if tool_format == "kimi-k3":
        return "kimi-k3"
    for name, marks in REASONING_MARKS.items():
        shown = any(mark.strip() in source for mark in (*marks.begins, *marks.ends))
        if shown or set(marks.begins) & set(control_tokens):
            return name
    return ""


def _first(formats: Sequence[tuple[str, str]], text: str) -> str:
    return next((name for name, pattern in formats if re.search(pattern, text)), "")


def _without_comments(source: str) -> str:
    return re.sub(r"\{#.*?#\}", "", source, flags=re.S)
