"""Calls to the files and batches of a router under test."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from infermesh.openai.v1 import batches_pb2 as pb
from infermesh.openai.v1 import batches_pb2_grpc as pb_grpc
from infermesh_router.testing.router import WAIT_S, RunningRouter
from infermesh_runtime.rpc.status import from_rpc_error

Metadata = tuple[tuple[str, str], ...]
CHAT = "/v1/chat/completions"
_BOUNDARY = "x-y-z"
_LOOK_AGAIN_S = 0.01


def line(custom_id: str, url: str = CHAT, **body: Any) -> bytes:
    """A line of a file of requests."""
    asked = {"model": "m", "messages": [{"role": "user", "content": custom_id}]} | body
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": asked}).encode() + b"\n"


def form(content: bytes, *, purpose: str = "batch", name: str = "asked.jsonl") -> HttpBody:
    """A file as clients send it."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'.encode(),
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'.encode(),
        b"Content-Type: application/octet-stream\r\n\r\n" + content + f"\r\n--{_BOUNDARY}--\r\n".encode(),
    ]
    return HttpBody(content_type=f"multipart/form-data; boundary={_BOUNDARY}", data=b"".join(parts))


async def call(router: RunningRouter, method: str, request: Message, metadata: Metadata = ()) -> Any:
    """Calls a method: its answer. Raises the status's InfermeshError."""
    try:
        answer = await getattr(pb_grpc.BatchServiceStub(router.channel), method)(request, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return json.loads(answer.data)


async def upload(router: RunningRouter, lines: Sequence[bytes], metadata: Metadata = ()) -> str:
    """Sends a file; its id."""
    return str((await call(router, "CreateFile", form(b"".join(lines)), metadata))["id"])


async def create(router: RunningRouter, file_id: str, headers: Metadata = (), **fields: Any) -> Any:
    """Begins a batch."""
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"} | fields
    return await call(router, "CreateBatch", HttpBody(data=json.dumps(body).encode()), headers)


async def ended(router: RunningRouter, batch_id: str, metadata: Metadata = ()) -> Any:
    """The batch, once it has ended."""
    return await when(router, batch_id, lambda batch: batch["status"] != "in_progress", metadata)


async def when(
    router: RunningRouter, batch_id: str, enough: Callable[[dict[str, Any]], bool], metadata: Metadata = ()
) -> Any:
    """The batch, once `enough` accepts it. Clients have no other way than to look again, either."""
    request = pb.GetBatchRequest(batch_id=batch_id)
    async with asyncio.timeout(WAIT_S):
        while not enough(batch := await call(router, "GetBatch", request, metadata)):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN_S)
    return batch


async def content(router: RunningRouter, file_id: str, metadata: Metadata = ()) -> bytes:
    """What is in a file. Raises the status's InfermeshError."""
    request = pb.GetFileContentRequest(file_id=file_id)
    try:
        stream = pb_grpc.BatchServiceStub(router.channel).GetFileContent(request, metadata=metadata)
        return b"".join([piece.data async for piece in stream])
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def answers(router: RunningRouter, file_id: str, metadata: Metadata = ()) -> dict[str, Any]:
    """The lines of a file of answers, by the id of the request."""
    lines = map(json.loads, (await content(router, file_id, metadata)).splitlines())
    return {told["custom_id"]: told for told in lines}
