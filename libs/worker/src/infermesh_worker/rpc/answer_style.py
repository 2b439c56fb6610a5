"""What a conversation means for its answer: how it is written, which marks are shown, which calls are forced."""

import asyncio
import json
from dataclasses import replace
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests import request as engine
from infermesh_engine.sampling.grammars.closed_objects import close_objects
from infermesh_engine.sampling.grammars.disjoint_branches import allow_disjoint_branches
from infermesh_runtime.answer_parsing.constraint import constrain_calls, forced_format, reasoning_rules
from infermesh_runtime.answer_parsing.parser import known_style, marks_of
from infermesh_runtime.answer_parsing.parts import OutputStyle
from infermesh_runtime.chat_templates.reasoning_marks import closes_reasoning, opens_reasoning
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.prompts.prompt import THREAD_FROM_BYTES, invalid, offers_tools

_TAIL_TOKENS = 16
"""Within so many tokens, a prompt that opens the reasoning has its mark."""


def forces_calls(chat: pb.ChatPrompt) -> bool:
    """Whether the model must call a tool."""
    return chat.tool_choice.mode == pb.TOOL_CHOICE_MODE_REQUIRED


def check_choice(request: pb.GenerateRequest) -> None:
    """Raises InvalidArgument if the choice of a tool contradicts the rest of the request."""
    chat = request.chat
    if not forces_calls(chat):
        return
    if request.HasField("format"):
        raise invalid("chat.tool_choice", "must not force a call beside a format")
    if not chat.tools:
        raise invalid("chat.tool_choice", "needs tools to force a call")
    if chat.tool_choice.name and all(tool.name != chat.tool_choice.name for tool in chat.tools):
        raise invalid("chat.tool_choice.name", f"{chat.tool_choice.name!r} is not among the tools")


async def answer_style(
    request: pb.GenerateRequest, model: OpenedModel, token_ids: tuple[int, ...]
) -> OutputStyle | None:
    """How the answer to a conversation is written, whose prompt became `token_ids`; None for other prompts."""
    if request.WhichOneof("prompt") != "chat":
        return None
    chat, style = request.chat, await model.answer_style()
    tail = model.tokenizer.decode(token_ids[-_TAIL_TOKENS:], skip_special_tokens=False) if style.reasoning else ""
    found = known_style(
        style.tool_format,
        "" if closes_reasoning(tail, style.reasoning) else style.reasoning,
        reasoning_opened=opens_reasoning(tail, style.reasoning),
        offers_tools=offers_tools(chat),
    )
    return replace(found, tool_format=forced_format(found)) if forces_calls(chat) else found


def shown_marks(request: pb.GenerateRequest, style: OutputStyle | None, model: OpenedModel) -> tuple[int, ...]:
    """The special tokens that the text of the answer must have so that it can be parsed, if the request asks for it."""
    if style is None or not request.text_options.show_marks:
        return ()
    return tuple(sorted(model.special_ids[mark] for mark in marks_of(style) if mark in model.special_ids))


async def answer_format(
    request: pb.GenerateRequest, style: OutputStyle | None, model: OpenedModel, own: engine.OutputFormat | None
) -> engine.OutputFormat | None:
    """What the answer must look like: `own` is the request's format. Reasoning may come before it, if there is some."""
    if style is None:
        return own
    if not forces_calls(request.chat):
        before = reasoning_rules(style, model.control_ids) if own is not None else ""
        return replace(own, before=before) if own is not None and before else own
    if request.chat.ByteSize() >= THREAD_FROM_BYTES:
        return await asyncio.to_thread(_forced_calls, request.chat, style, model)
    return _forced_calls(request.chat, style, model)


def _forced_calls(chat: pb.ChatPrompt, style: OutputStyle, model: OpenedModel) -> engine.OutputFormat:
    named = chat.tool_choice.name
    tools = {tool.name: _arguments(tool) for tool in chat.tools if not named or tool.name == named}
    parallel = not named and (chat.parallel_tool_calls or not chat.HasField("parallel_tool_calls"))
    constraint = constrain_calls(style, tools, model.control_ids, parallel=parallel)
    return engine.OutputFormat(kind="grammar", spec=constraint.grammar, bound_digits=True)


def _arguments(tool: pb.Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, as it is for the grammar of a JSON schema."""
    schema: dict[str, Any] = json.loads(tool.parameters_json or "{}")
    try:
        close_objects(schema)
        allow_disjoint_branches(schema)
    except RecursionError:
        raise invalid("chat.tools", f"the parameters of {tool.name!r} are nested too deeply") from None
    return schema
