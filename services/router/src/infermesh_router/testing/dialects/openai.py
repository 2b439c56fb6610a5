"""Requests to the OpenAI front of a router under test."""

import json
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody

from infermesh_router.testing.router import RunningRouter
from infermesh_runtime.rpc.status import from_rpc_error

USER = {"role": "user", "content": "hi"}


async def post(
    router: RunningRouter, method: str, body: dict[str, Any] | bytes, metadata: tuple[tuple[str, str], ...] = ()
) -> tuple[list[HttpBody], dict[str, str]]:
    """Calls a method: the messages and the initial metadata. Raises the InfermeshError that the status stands for."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    call = getattr(router.openai, method)(HttpBody(data=raw), metadata=metadata)
    try:
        messages = [message async for message in call]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return messages, dict(await call.initial_metadata())


async def chat(router: RunningRouter, **fields: Any) -> tuple[list[HttpBody], dict[str, str]]:
    """Asks for a chat answer; fields of the body by name."""
    return await post(router, "CreateChatCompletion", {"model": "m", "messages": [USER]} | fields)


async def complete(router: RunningRouter, **fields: Any) -> tuple[list[HttpBody], dict[str, str]]:
    """Asks for a completion; fields of the body by name."""
    return await post(router, "CreateCompletion", {"model": "m", "prompt": "hi"} | fields)


def events(messages: list[HttpBody]) -> list[Any]:
    """The events of a stream, parsed; "[DONE]" as it is."""
    text = b"".join(message.data for message in messages).decode()
    if not text.endswith("\n\n"):
        raise AssertionError(f"the stream ends in the middle of an event: {text[-80:]!r}")
    bodies = [block.removeprefix("data: ") for block in text.removesuffix("\n\n").split("\n\n")]
    return [body if body == "[DONE]" else json.loads(body) for body in bodies]
