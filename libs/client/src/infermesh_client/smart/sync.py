"""`smart_chat_sync` over the synchronous client."""
# Made from smart/aio.py by tools/sync_client.py: edit that file, then run `make sync-client`.

from collections.abc import Sequence
from contextlib import closing
from typing import Unpack

from infermesh_client.client import Client
from infermesh_client.request import AnswerOptions, ChatMessage
from infermesh_client.smart.answer import SmartAnswer
from infermesh_client.smart.calling import call_at_once
from infermesh_client.smart.conversation import MAX_ROUNDS, Conversation, OnPart
from infermesh_client.smart.functions import Function


def smart_chat_sync(
    model: str,
    messages: str | Sequence[ChatMessage],
    *,
    tools: Sequence[Function] = (),
    device: str = "auto",
    max_rounds: int = MAX_ROUNDS,
    on_part: OnPart | None = None,
    client: Client | None = None,
    **options: Unpack[AnswerOptions],
) -> SmartAnswer:
    """Answers a conversation, or one question, and says which device answered, why it was chosen, and how fast.

    `tools` are functions that the model may call: their names, type annotations and docstrings say what they do. Their
    results go back to the model, and so do the errors that they raise, until it answers or has been asked `max_rounds`
    times; the last time it may not call. Functions run in this thread. A `tool_choice` that
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
        coroutines=False,
        **options,
    )
    if client is not None:
        return converse(client, conversation)
    with Client() as own:
        return converse(own, conversation)


def converse(client: Client, conversation: Conversation) -> SmartAnswer:
    """Asks, and calls what the model wants called, until the conversation has its answer."""
    while (request := conversation.next_request()) is not None:
        with closing(client.events(request)) as events:
            for event in events:
                conversation.take(event)
        while (call := conversation.next_call()) is not None:
            call_at_once(conversation, *call)
    return conversation.answer()
