"""Requests to the Ollama front of a router under test."""

import json
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from infermesh.ollama.v1 import ollama_pb2_grpc as pb_grpc
from infermesh_router.testing.router import RunningRouter
from infermesh_runtime.rpc.status import from_rpc_error

USER = {"role": "user", "content": "hi"}
Metadata = tuple[tuple[str, str], ...]


async def ask(
    router: RunningRouter, method: str, body: dict[str, Any] | bytes, metadata: Metadata = ()
) -> tuple[list[Any], dict[str, str]]:
    """Calls Chat or Generate: the lines of the answer, and the initial metadata. Raises the status's InfermeshError."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    call = getattr(pb_grpc.OllamaServiceStub(router.channel), method)(HttpBody(data=raw), metadata=metadata)
    try:
        messages = [message async for message in call]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    lines = b"".join(message.data for message in messages).splitlines()
    return [json.loads(line) for line in lines], dict(await call.initial_metadata())


async def chat(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> tuple[list[Any], dict[str, str]]:
    """Asks for a chat answer; fields of the body by name."""
    return await ask(router, "Chat", {"model": "m", "messages": [USER]} | fields, metadata)


async def generate(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> tuple[list[Any], dict[str, str]]:
    """Asks to answer a prompt; fields of the body by name."""
    return await ask(router, "Generate", {"model": "m", "prompt": "hi"} | fields, metadata)


async def call_unary(router: RunningRouter, method: str, request: Message, metadata: Metadata = ()) -> Any:
    """Calls another method: its answer. Raises the status's InfermeshError."""
    try:
        answer = await getattr(pb_grpc.OllamaServiceStub(router.channel), method)(request, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return json.loads(answer.data)
