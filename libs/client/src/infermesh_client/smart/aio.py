"""`smart_chat` over the asynchronous client."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Unpack

from infermesh_client.aio import AsyncClient
from infermesh_client.request import AnswerOptions, ChatMessage
from infermesh_client.smart.answer import SmartAnswer
from infermesh_client.smart.calling import call_in_turn
from infermesh_client.smart.conversation import MAX_ROUNDS, Conversation, OnPart
from infermesh_client.smart.functions import Function


async def smart_chat(
    model: str,
    messages: str | Sequence[ChatMessage],
    *,
    tools: Sequence[Function] = (),
    device: str = "auto",
    max_rounds: int = MAX_ROUNDS,
    on_part: OnPart | None = None,
    client: AsyncClient | None = None,
    **options: Unpack[AnswerOptions],
) -> SmartAnswer:
    """Answers a conversation, or one question, and says which device answered, why it was chosen, and how fast.

    `tools` are functions that the model may call: their names, type annotations and docstrings say what they do. Their
    results go back to the model, and so do the errors that they raise, until it answers or has been asked `max_rounds`
    times; the last time it may not call. Coroutine functions are awaited, others run in a thread. A `tool_choice` that
    forces a call forces the first ones only.

    `device` is "auto", a kind of device such as "gpu", or an endpoint's address. `on_part` is called with each part of
    an answer as it becomes certain. Without a `client`, the mesh at 127.0.0.1:8081 is asked, without an API key. Raises
    InvalidArgument for a tool that cannot be one, and what `generate` raises.
    """
    conversation = Conversation(
        model,
        messages,
        tools=tools,
        device=device,
        max_rounds=max_rounds,
        on_part=on_part,
        coroutines=True,
        **options,
    )
    if client is not None:
        return await converse(client, conversation)
    async with AsyncClient() as own:
        return await converse(own, conversation)


async def converse(client: AsyncClient, conversation: Conversation) -> SmartAnswer:
    """Asks, and calls what the model wants called, until the conversation has its answer."""
    while (request := conversation.next_request()) is not None:
        async with aclosing(client.events(request)) as events:
            async for event in events:
                conversation.take(event)
        while (call := conversation.next_call()) is not None:
            await call_in_turn(conversation, *call)
    return conversation.answer()
