"""Requests to the Anthropic front of a router under test."""

import json
from dataclasses import dataclass
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody

from infermesh_router.testing.router import RunningRouter
from infermesh_runtime.rpc.status import from_rpc_error

HI = {"role": "user", "content": "hi"}


@dataclass(frozen=True, slots=True)
class Received:
    """An answer of CreateMessage."""

    data: bytes
    headers: dict[str, str]

    @property
    def body(self) -> Any:
        """A whole answer."""
        return json.loads(self.data)

    @property
    def events(self) -> list[Any]:
        """The data of each event of a stream, after a check that its name is its type."""
        blocks = self.data.decode().removesuffix("\n\n").split("\n\n")
        parsed = []
        for block in blocks:
            name, data = block.split("\n")
            parsed.append(json.loads(data.removeprefix("data: ")))
            if name != f"event: {parsed[-1]['type']}":
                raise AssertionError(f"the event {block!r} has another name than its type")
        return parsed


def body_message(**fields: Any) -> bytes:
    """A serialised body of /v1/messages with these fields."""
    body = {"model": "m", "max_tokens": 9, "messages": [HI]} | fields
    return bytes(HttpBody(data=json.dumps(body).encode()).SerializeToString())


async def ask(router: RunningRouter, **fields: Any) -> Received:
    """Asks for a message; fields of the body by name. Raises the InfermeshError that the status stands for."""
    call = router.anthropic.CreateMessage(HttpBody.FromString(body_message(**fields)))
    try:
        data = b"".join([message.data async for message in call])
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return Received(data, dict(await call.initial_metadata()))
