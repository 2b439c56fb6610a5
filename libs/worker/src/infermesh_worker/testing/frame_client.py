"""A client of a GenerateMany stream for tests: starts calls, and sorts the events of frames by call."""

from collections import defaultdict
from typing import Any

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub


class FrameClient:
    """One stream. Nothing is read but in `read` and what calls it, so a test decides how slow the reader is."""

    def __init__(self, stub: InferenceServiceStub) -> None:
        self.stream: Any = stub.GenerateMany()
        self.frames: list[pb.GenerateManyResponse] = []
        """What came, in order."""
        self.events: dict[int, list[pb.GenerateResponse]] = defaultdict(list)
        self.ends: dict[int, pb.CallEnd] = {}

    async def start(self, call: int, request: pb.GenerateRequest | bytes, **fields: Any) -> None:
        """Begins a call; `fields` are those of CallStart."""
        body = request if isinstance(request, bytes) else request.SerializeToString()
        await self.stream.write(pb.GenerateManyRequest(start=pb.CallStart(call=call, request=body, **fields)))

    async def cancel(self, call: int) -> None:
        await self.stream.write(pb.GenerateManyRequest(cancel=call))

    async def read(self) -> bool:
        """Reads one frame; False: the stream has ended. Raises AioRpcError, and AssertionError for a wrong frame."""
        frame = await self.stream.read()
        if frame is grpc.aio.EOF:
            return False
        self.frames.append(frame)
        for event in frame.events:
            assert event.call not in self.ends, f"call {event.call} goes on after its end"  # noqa: S101 - for tests
            if event.HasField("end"):
                self.ends[event.call] = event.end
            else:
                self.events[event.call].append(pb.GenerateResponse.FromString(event.response))
        return True

    async def exhaust(self) -> None:
        """Reads to the stream's end."""
        while await self.read():
            pass

    async def read_until_ended(self, *calls: int) -> None:
        """Reads until all of these calls have ended."""
        while not set(calls) <= self.ends.keys():
            if not await self.read():
                raise AssertionError(f"the stream ended before calls {set(calls) - self.ends.keys()}")

    async def read_until_begun(self, *calls: int) -> None:
        """Reads until each of these calls has had an event."""
        while not set(calls) <= self.events.keys():
            await self.read()
