"""A client that stops reading a sound loses it, so that what it holds is free for others."""

import asyncio
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import DeadlineExceeded
from infermesh_runtime.rpc.context import RpcContext
from infermesh_worker.rpc.audio import speak


class Stopped:
    """A client that takes one event."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    async def send_initial_metadata(self, metadata: object) -> None:
        pass

    async def write(self, message: Any) -> None:
        if self.taken:
            await asyncio.Event().wait()
        self.taken.append(message)


async def test_an_event_that_nobody_takes_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speak, "MOST_UNREAD_S", 0.02)
    context = RpcContext(Stopped(), "r")
    await speak._write(context, pb.SpeakResponse())
    with pytest.raises(DeadlineExceeded, match=r"not read for 0\.02 s") as caught:
        await speak._write(context, pb.SpeakResponse())
    assert caught.value.reason == "ANSWER_NOT_READ"
