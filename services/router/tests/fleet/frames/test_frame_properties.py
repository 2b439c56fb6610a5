"""However events are spread over frames and calls, each call tells its reader all of its own, in order."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.frames.frame_call import FrameCall
from infermesh_router.fleet.frames.frame_stream import FrameStream
from infermesh_router.fleet.frames.turns import Turns

CALLS = 3


class GivenFrames:
    """A channel whose GenerateMany stream has given frames: None stands for a moment in which readers run."""

    def __init__(self, frames: list[bytes | None], begin: Any) -> None:
        self._frames = frames
        self._begin = begin

    def stream_stream(self, *_method: Any) -> Any:
        return lambda _requests: self

    def cancel(self) -> bool:
        return False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b""
        self._begin()
        for frame in self._frames:
            if frame is None:
                await asyncio.sleep(0)
            else:
                yield frame


events = st.one_of(
    st.builds(lambda text: pb.GenerateResponse(delta=pb.Delta(text=text, token_ids=[7])), st.text("ab", min_size=1)),
    st.just(pb.GenerateResponse(started=pb.Started(model="m"))),
    st.just(pb.GenerateResponse(finished=pb.Finished(finish_reason=pb.FINISH_REASON_STOP))),
)
sent = st.lists(st.tuples(st.integers(1, CALLS), events), max_size=60)
codes = st.lists(st.sampled_from([None, 0, 8, 14]), min_size=CALLS, max_size=CALLS)
"""How each call ends; None: with the link."""


def told(stream: list[pb.GenerateResponse]) -> list[object]:
    """The stream, with deltas in a row as one."""
    found: list[object] = []
    for event in stream:
        if not event.HasField("delta"):
            found.append(event.SerializeToString())
        elif found and isinstance(found[-1], list):
            found[-1] = [found[-1][0] + event.delta.text, found[-1][1] + len(event.delta.token_ids)]
        else:
            found.append([event.delta.text, len(event.delta.token_ids)])
    return found


async def read(call: FrameCall) -> tuple[list[object], int]:
    """What a call told, and its status."""
    came: list[pb.GenerateResponse] = []
    code = 0
    while True:
        try:
            came.append(pb.GenerateResponse.FromString(await anext(call)))
        except StopAsyncIteration:
            break
        except grpc.aio.AioRpcError as error:
            code = error.code().value[0]
            break
    return told(came), code


@settings(max_examples=60, deadline=None)
@given(sent, codes, st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=60), st.integers(1, 4))
def test_each_call_gets_its_own_events(
    stream: list[tuple[int, pb.GenerateResponse]], ends: list[int | None], cuts: list[tuple[int, bool]], turns: int
) -> None:
    messages = [pb.CallEvent(call=call, response=event.SerializeToString()) for call, event in stream]
    messages += [pb.CallEvent(call=n, end=pb.CallEnd(code=code)) for n, code in enumerate(ends, 1) if code is not None]
    frames: list[bytes | None] = []
    for size, pause in cuts * 100:
        part, messages = messages[:size], messages[size:]
        frames += [pb.GenerateManyResponse(events=part).SerializeToString(), *([None] if pause else [])]
        if not messages:
            break

    async def run() -> list[tuple[list[object], int]]:
        def begin() -> None:
            readings.extend(
                asyncio.ensure_future(read(many.start(b"", request_id="", timeout_s=None))) for _ in range(CALLS)
            )

        readings: list[asyncio.Future[tuple[list[object], int]]] = []
        many = FrameStream(GivenFrames(frames, begin), lambda: None, Turns(turns, busy_s=0.0))
        await many.run()
        return await asyncio.gather(*readings)

    own = [told([event for call, event in stream if call == number]) for number in range(1, CALLS + 1)]
    assert asyncio.run(run()) == [
        (events, 14 if code is None else code) for events, code in zip(own, ends, strict=True)
    ]


@pytest.mark.parametrize("reads_first", [True, False])
async def test_several_events_of_a_frame_are_read_without_waiting(reads_first: bool) -> None:
    call = FrameCall(lambda: None)
    reading = asyncio.ensure_future(anext(call))
    if reads_first:
        await asyncio.sleep(0)
    for message in (b"a", b"b", b"c"):
        call.put(message)
    assert await reading == b"a"
    for message in (b"b", b"c"):
        with pytest.raises(StopIteration) as given:
            call.__anext__().send(None)  # a coroutine that does not wait ends with its first step
        assert given.value.value == message
