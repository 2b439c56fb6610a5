"""Calls the functions that a model asks for: at once, or in turn with other coroutines."""

import asyncio
import inspect
import time

from infermesh_client.answer import ToolCall
from infermesh_client.smart.conversation import Conversation
from infermesh_client.smart.functions import FunctionTool, read_arguments, result_text


async def call_in_turn(conversation: Conversation, call: ToolCall, tool: FunctionTool | None) -> None:
    """Tells the model what the function gives. A coroutine function is awaited, any other runs in a thread.

    So is a coroutine that another function gives, as one does that wraps a coroutine function.
    """
    begun_s = time.monotonic()
    try:
        function, arguments = _known(call, tool).checked, read_arguments(call.arguments)
        awaited = function(**arguments) if _is_coroutine(tool) else asyncio.to_thread(function, **arguments)
        result = await awaited
        outcome: str | Exception = result_text(await result if inspect.isawaitable(result) else result)
    except Exception as error:
        outcome = error
    conversation.tell(call, outcome, time.monotonic() - begun_s)


def call_at_once(conversation: Conversation, call: ToolCall, tool: FunctionTool | None) -> None:
    """Tells the model what the function gives, which is no coroutine function."""
    begun_s = time.monotonic()
    try:
        result = _known(call, tool).checked(**read_arguments(call.arguments))
        _refuse_awaitable(call, result)
        outcome: str | Exception = result_text(result)
    except Exception as error:
        outcome = error
    conversation.tell(call, outcome, time.monotonic() - begun_s)


def _known(call: ToolCall, tool: FunctionTool | None) -> FunctionTool:
    if tool is None:
        raise LookupError(f"there is no function {call.name!r}")
    return tool


def _is_coroutine(tool: FunctionTool | None) -> bool:
    return tool is not None and inspect.iscoroutinefunction(tool.checked)


def _refuse_awaitable(call: ToolCall, result: object) -> None:
    if not inspect.isawaitable(result):
        return
    if inspect.iscoroutine(result):
        result.close()  # else Python warns that nobody awaited it
    raise TypeError(f"the function {call.name!r} gives a coroutine; the asynchronous smart_chat awaits it")
