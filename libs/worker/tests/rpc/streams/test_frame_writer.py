"""The outputs of several calls, whatever comes between them, reach a reader of any speed whole and in order."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests.output import Finished, FinishReason
from infermesh_runtime.errors import Internal, ResourceExhausted
from infermesh_worker.engine_client.output_stream import OutputStream
from infermesh_worker.engine_client.request_meter import RequestTiming
from infermesh_worker.engine_process.frames import WireLogprob
from infermesh_worker.rpc.streams import frame_writer, framed_call
from infermesh_worker.rpc.streams.frame_writer import FrameWriter
from infermesh_worker.rpc.streams.framed_call import FramedCall

CALLS = 3


@dataclass
class Reader:
    """Reads what is written; one that is slow takes the next message only when the test lets it."""

    frames: list[bytes] = field(default_factory=list)
    may_read: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, frame: bytes) -> None:
        self.frames.append(frame)
        await self.may_read.wait()

    def events(self, call: int) -> list[pb.GenerateResponse]:
        frames = map(pb.GenerateManyResponse.FromString, self.frames)
        return [
            pb.GenerateResponse.FromString(event.response)
            for frame in frames
            for event in frame.events
            if event.call == call
        ]


def reader(*, fast: bool = True) -> Reader:
    made = Reader()
    if fast:
        made.may_read.set()
    return made


def forget(_call: FramedCall) -> None: ...


def output(choices: int = 1) -> OutputStream:
    return OutputStream(choices, RequestTiming(0.0, 1))


def delta(choice: int, token_id: int) -> tuple[str, int, str, list[int], list[WireLogprob]]:
    return "r", choice, chr(token_id), [token_id], [WireLogprob(token_id, -1.0, b"t")] if token_id % 2 else []


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


Step = tuple[str, int, int]
"""(kind, call, choice)."""
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "push", "finish", "run", "stop_reading", "read"]),
        st.integers(0, CALLS - 1),
        st.integers(0, 1),
    ),
    max_size=80,
)


async def play(steps: Sequence[Step], last: str) -> None:
    """Runs the steps, and checks what the reader gets; `last` says how the calls end that the steps leave open."""
    reads, pushed, over = reader(), defaultdict[tuple[int, int], list[int]](list), set[tuple[int, int]]()
    writer = FrameWriter(reads.take)
    outputs = [output(2) for _ in range(CALLS)]
    calls = [FramedCall(number, writer.ready, forget) for number in range(CALLS)]
    writing = asyncio.create_task(writer.run())
    delivering = [
        asyncio.create_task(call.deliver(stream, pb.Started(model="m")))
        for call, stream in zip(calls, outputs, strict=True)
    ]
    await settle()
    for number, (kind, call, choice) in enumerate(steps):
        if kind == "push" and (call, choice) not in over:
            outputs[call].push(delta(choice, 65 + number))
            pushed[call, choice].append(65 + number)
        elif kind == "finish" and (call, choice) not in over:
            over.add((call, choice))
            outputs[call].finish(Finished("r", choice, FinishReason.STOP))
        elif kind in {"stop_reading", "read"}:
            reads.may_read = asyncio.Event() if kind == "stop_reading" and reads.may_read.is_set() else reads.may_read
            if kind == "read":
                reads.may_read.set()
        elif kind == "run":
            await settle()
    for call in range(CALLS):
        for choice in {0, 1} - {choice for number, choice in over if number == call}:
            if last == "finish":
                outputs[call].finish(Finished("r", choice, FinishReason.LENGTH))
            else:
                outputs[call].fail(Internal("it broke"))
    reads.may_read.set()
    ends = await asyncio.gather(*delivering, return_exceptions=True)
    writer.close()
    await writing
    for call in range(CALLS):
        check_call(reads.events(call), [pushed[call, choice] for choice in (0, 1)])
        whole = last == "finish" or {(call, 0), (call, 1)} <= over
        assert (ends[call] is None) == whole


def check_call(events: Sequence[pb.GenerateResponse], pushed: Sequence[Sequence[int]]) -> None:
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[:1] == ["started"][: len(kinds)]
    assert kinds.count("started") <= 1
    for choice, token_ids in enumerate(pushed):
        deltas = [event.delta for event in events if event.HasField("delta") and event.delta.choice == choice]
        assert [token_id for part in deltas for token_id in part.token_ids] == token_ids
        assert "".join(part.text for part in deltas) == "".join(map(chr, token_ids))
        logprobs = [entry.token_id for part in deltas for entry in part.logprobs]
        assert logprobs == [token_id for token_id in token_ids if token_id % 2]
        finished = [
            index
            for index, event in enumerate(events)
            if event.finished.finish_reason and event.finished.choice == choice
        ]
        assert len(finished) <= 1
        assert not finished or all(
            event.WhichOneof("event") != "delta" or event.delta.choice != choice for event in events[finished[0] :]
        )


@settings(deadline=None)
@given(STEPS, st.sampled_from(["finish", "fail"]))
def test_any_interleaving_gives_each_call_its_whole_output(steps: list[Step], last: str) -> None:
    asyncio.run(play(steps, last))


async def test_a_slow_reader_gets_one_delta_of_each_call() -> None:
    reads = reader(fast=False)
    writer = FrameWriter(reads.take)
    outputs = [output() for _ in range(CALLS)]
    calls = [FramedCall(number, writer.ready, forget) for number in range(CALLS)]
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run())
        for call, stream in zip(calls, outputs, strict=True):
            group.create_task(call.deliver(stream, pb.Started()))
        for token_id in range(100):
            for stream in outputs:
                stream.push(delta(0, 65 + 2 * token_id))
            await asyncio.sleep(0)
        assert reads.frames == [frame_writer.OPENING]  # it waits in the first write
        reads.may_read.set()
        for stream in outputs:
            stream.finish(Finished("r", 0, FinishReason.STOP))
        await settle()
        writer.close()
    assert len(reads.frames) == 2
    for number in range(CALLS):
        _started, merged, _finished = reads.events(number)
        assert list(merged.delta.token_ids) == [65 + 2 * token_id for token_id in range(100)]


async def write_all(call: FramedCall, *sizes: int) -> None:
    for size in sizes:
        await call.write(b"x" * size)


async def test_a_frame_ends_with_the_call_that_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_writer, "FRAME_BYTES", 1000)
    reads = reader(fast=False)
    writer = FrameWriter(reads.take)
    calls = [FramedCall(number, writer.ready, forget) for number in range(20)]
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run())
        writing = [group.create_task(write_all(call, 300, 1500, 300)) for call in calls]
        await settle()
        reads.may_read.set()
        await asyncio.gather(*writing)
        writer.close()
    frames = [pb.GenerateManyResponse.FromString(frame) for frame in reads.frames]
    assert all(len(frame.events) == 1 or frame.ByteSize() <= 1000 for frame in frames)
    for number in range(20):
        sizes = [len(event.response) for frame in frames for event in frame.events if event.call == number]
        assert sizes == [300, 1500, 300]


async def test_an_event_that_is_too_long_fails_its_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framed_call, "MAX_EVENT_BYTES", 1000)
    reads = reader()
    writer = FrameWriter(reads.take)
    outputs = [output(), output()]
    calls = [FramedCall(number, writer.ready, forget) for number in range(2)]
    writing = asyncio.create_task(writer.run())
    long, short = (
        asyncio.create_task(call.deliver(stream, pb.Started())) for call, stream in zip(calls, outputs, strict=True)
    )
    outputs[0].push(("r", 0, "x" * 2000, [1], []))
    outputs[1].push(delta(0, 66))
    outputs[1].finish(Finished("r", 0, FinishReason.STOP))
    with pytest.raises(ResourceExhausted, match="log probabilities"):
        await long
    await short
    writer.close()
    await writing
    assert len(reads.events(1)) == 3


async def test_commands_wait_while_too_many_calls_are_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_writer, "MAX_READY", 3)
    reads = reader(fast=False)
    writer = FrameWriter(reads.take)
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run())
        await settle()
        for number in range(4):
            group.create_task(FramedCall(number, writer.ready, forget).write(b"x"))
        await settle()
        waiting = asyncio.create_task(writer.room())
        await settle()
        assert not waiting.done()
        reads.may_read.set()
        await waiting
        await writer.room()
        writer.close()


async def test_calls_beyond_a_full_frame_keep_their_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_writer, "FRAME_BYTES", 1000)
    reads = reader(fast=False)
    writer = FrameWriter(reads.take)
    outputs = [output() for _ in range(20)]
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run())
        for number, stream in enumerate(outputs):
            group.create_task(FramedCall(number, writer.ready, forget).deliver(stream, pb.Started()))
        await settle()
        reads.may_read, before = asyncio.Event(), reads.may_read
        for stream in outputs:
            stream.push(("r", 0, "x" * 300, [1], []))
        before.set()
        await settle()
        for stream in outputs:
            stream.push(("r", 0, "y", [2], []))
            stream.finish(Finished("r", 0, FinishReason.STOP))
        reads.may_read.set()
        await settle()
        writer.close()
    deltas = [sum(event.HasField("delta") for event in reads.events(number)) for number in range(20)]
    assert deltas == [2] * 4 + [1] * 16


async def test_a_call_that_is_dropped_before_the_writers_turn_is_not_written() -> None:
    reads = reader()
    writer = FrameWriter(reads.take)
    streams = [output(), output()]
    calls = [FramedCall(number, writer.ready, forget) for number in range(2)]
    writing = asyncio.create_task(writer.run())
    for call, stream in zip(calls, streams, strict=True):
        call.task = asyncio.create_task(call.deliver(stream, pb.Started()))
    await settle()
    for stream in streams:
        stream.push(delta(0, 65))
    calls[0].drop()
    await settle()
    assert (len(reads.events(0)), len(reads.events(1))) == (0, 2)
    calls[1].drop()
    writer.close()
    await writing


async def test_a_writer_that_fails_writes_nothing_more_however_busy_its_calls_are() -> None:
    reads = reader(fast=False)
    writer = FrameWriter(reads.take)
    writing = asyncio.create_task(writer.run())
    busy = asyncio.create_task(FramedCall(1, writer.ready, forget).write(b"x"))
    await settle()
    writer.fail(Internal("it broke"))
    late = asyncio.create_task(FramedCall(2, writer.ready, forget).write(b"y"))
    await settle()
    reads.may_read.set()
    with pytest.raises(Internal, match="it broke"):
        await writing
    assert reads.frames == [frame_writer.OPENING]
    for task in (busy, late):
        task.cancel()
