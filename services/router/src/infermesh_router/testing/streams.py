"""Requests to a router under test, and scripts of workers that hesitate, fail or refuse."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.router import RunningRouter, Script, delta, finished, started
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.status import from_rpc_error


def ask(model: str = "m", **fields: Any) -> pb.GenerateRequest:
    """A request with a short prompt."""
    return pb.GenerateRequest(model=model, text="hi there", **fields)


async def generate(
    router: RunningRouter,
    request: pb.GenerateRequest | None = None,
    events: list[pb.GenerateResponse] | None = None,
    *,
    timeout_s: float | None = 20,
    metadata: tuple[tuple[str, str], ...] = (),
) -> list[pb.GenerateResponse]:
    """All events of the answer, also put into `events`. Raises the InfermeshError that the status stands for."""
    events = [] if events is None else events
    try:
        async for event in router.inference.Generate(request or ask(), timeout=timeout_s, metadata=metadata):
            events.append(event)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return events


def text(events: Iterable[pb.GenerateResponse]) -> str:
    """The text of all events together."""
    return "".join(event.delta.text for event in events)


def hold(seconds: float | None = None) -> Script:
    """Says nothing for that long (None: for ever), then "Hello world"."""

    async def script(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        await (asyncio.Event().wait() if seconds is None else asyncio.sleep(seconds))
        yield delta("Hello")
        yield delta(" world")
        yield finished()

    return script


def stop_after_a_token(error: Exception | None) -> Script:
    """Says "Hello", then raises the error or falls silent; as a continuation, says " there" and ends."""

    async def script(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        if request.generated:
            yield delta(" there")
            yield finished()
            return
        yield delta("Hello")
        if error is not None:
            raise error
        await asyncio.Event().wait()

    return script


def refuse(error: Exception) -> Script:
    """Raises the error at once."""

    async def script(_request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        raise error
        yield

    return script
