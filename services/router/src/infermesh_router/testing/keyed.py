"""Calls to a router with API keys, over each API, for tests of who may do what."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.testing.dialects.anthropic import body_message
from infermesh_router.testing.dialects.openai import USER
from infermesh_router.testing.router import RunningRouter
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.rpc.status import from_rpc_error

Metadata = tuple[tuple[str, str], ...]
StartKeyed = Callable[..., Awaitable[RunningRouter]]
"""Starts a router whose keys have these names and fields; `worker` has the fields of its only worker."""


async def generate(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    """Runs a request to its end; its initial metadata."""
    call = router.inference.Generate(pb.GenerateRequest(**{"model": "m", "text": "hi"} | fields), metadata=metadata)
    async for _ in call:
        pass
    return dict(await call.initial_metadata())


async def chat(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    body = json.dumps({"model": "m", "messages": [USER]} | fields).encode()
    call = router.openai.CreateChatCompletion(HttpBody(data=body), metadata=metadata)
    async for _ in call:
        pass
    return dict(await call.initial_metadata())


async def complete(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    body = json.dumps({"model": "m", "prompt": ["hi", "ho"]} | fields).encode()
    call = router.openai.CreateCompletion(HttpBody(data=body), metadata=metadata)
    async for _ in call:
        pass
    return dict(await call.initial_metadata())


async def message(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    call = router.anthropic.CreateMessage(HttpBody.FromString(body_message(**fields)), metadata=metadata)
    async for _ in call:
        pass
    return dict(await call.initial_metadata())


async def embed(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    call = router.inference.Embed(pb.EmbedRequest(**{"model": "m", "texts": ["hi"]} | fields), metadata=metadata)
    await call
    return dict(await call.initial_metadata())


async def embeddings(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    body = json.dumps({"model": "m", "input": "hi"} | fields).encode()
    call = router.openai.CreateEmbedding(HttpBody(data=body), metadata=metadata)
    await call
    return dict(await call.initial_metadata())


async def infer(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    await router.inference.Infer(pb.InferRequest(**{"model": "m"} | fields), metadata=metadata)
    return {}


async def metrics(router: RunningRouter, metadata: Metadata = ()) -> dict[str, str]:
    await router.openai.GetMetrics(openai_pb2.GetMetricsRequest(), metadata=metadata)
    return {}


async def models(router: RunningRouter, metadata: Metadata = ()) -> dict[str, str]:
    await router.openai.ListModels(openai_pb2.ListModelsRequest(), metadata=metadata)
    return {}


async def model(router: RunningRouter, metadata: Metadata = ()) -> dict[str, str]:
    await router.openai.GetModel(openai_pb2.GetModelRequest(model="m"), metadata=metadata)
    return {}


ASKS = [generate, chat, complete, message, embed, embeddings]


async def refusal(asking: Any) -> tuple[InfermeshError, dict[str, str]]:
    """The error of a call that must fail, and its trailing metadata."""
    try:
        await asking
    except grpc.aio.AioRpcError as error:
        trailing = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, str)}
        return from_rpc_error(error), trailing
    raise AssertionError("the call was not refused")


async def is_refused(asking: Any) -> bool:
    """Whether a call is refused for its key. Raises for another error."""
    try:
        await asking
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return True
        raise
    return False
