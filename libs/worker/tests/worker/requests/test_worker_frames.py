"""GenerateMany through a real front and a real engine process on the simulated device."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc.status_pb2 import Status

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_runtime.errors import Code
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS
from infermesh_runtime.rpc.status import from_rpc_error, from_status
from infermesh_worker.testing.frame_client import FrameClient
from infermesh_worker.testing.processes import WorkerProcess, WorkerStubs, connected, simulated_worker_process

pytestmark = pytest.mark.asyncio(loop_scope="module")
TIMEOUT_S = 20


@pytest_asyncio.fixture(loop_scope="module")
async def client(stub: InferenceServiceStub) -> AsyncIterator[FrameClient]:
    made = FrameClient(stub)
    async with asyncio.timeout(TIMEOUT_S):
        yield made
        made.stream.cancel()


@pytest_asyncio.fixture(loop_scope="module")
async def stubs(worker: WorkerProcess) -> AsyncIterator[WorkerStubs]:
    async with connected(worker) as made:
        yield made


def ask(**fields: Any) -> pb.GenerateRequest:
    stop = pb.StopConditions(max_tokens=fields.pop("max_tokens", 8))
    chosen: dict[str, Any] = {"text": "hello", "seed": 1, "stop": stop} | fields
    return pb.GenerateRequest(**chosen)


def joined(events: Sequence[pb.GenerateResponse]) -> list[pb.GenerateResponse]:
    """The events with the deltas of each choice as one, before its end: how they are cut depends on the time."""
    deltas: dict[int, pb.Delta] = {}
    made = []
    for event in events:
        if event.HasField("delta"):
            delta = deltas.setdefault(event.delta.choice, pb.Delta(choice=event.delta.choice))
            delta.text += event.delta.text
            delta.token_ids.extend(event.delta.token_ids)
            delta.logprobs.extend(event.delta.logprobs)
        elif event.HasField("finished"):
            event.finished.ClearField("timings")
            event.finished.usage.cached_tokens = 0
            made += [pb.GenerateResponse(delta=deltas[event.finished.choice]), event]
        else:
            made.append(event)
    return sorted(made, key=lambda event: event.finished.choice + event.delta.choice)


async def failure(waiting: Awaitable[object]) -> grpc.aio.AioRpcError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await waiting
    return caught.value


async def exhaust(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


def idle(report: pb.HealthReport) -> bool:
    load = report.load
    return not (load.running or load.waiting or load.waiting_tokens or load.kv_cache_usage)


def error_of(end: pb.CallEnd) -> Any:
    error = from_status(Status.FromString(end.details))
    assert (error.code, error.message) == (end.code, end.message)
    return error


async def test_the_first_response_has_no_events(client: FrameClient) -> None:
    assert await client.read()
    assert client.frames == [pb.GenerateManyResponse(takes_more=True)]


async def test_each_call_gets_the_events_of_a_generate_call(client: FrameClient, stub: InferenceServiceStub) -> None:
    chat = pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="hi")])
    requests = [
        ask(),
        ask(n=3, seed=2),
        ask(seed=3, max_tokens=40, logprobs=pb.LogprobsOptions(top=2)),
        ask(chat=chat, max_tokens=1),
        ask(text="€uro", seed=5, prompt_options=pb.PromptOptions(logprobs=1, return_token_ids=True)),
        ask(seed=6, generated=[pb.Continuation(token_ids=[72, 105])]),
    ]
    for number, request in enumerate(requests):
        await client.start(number, request)
    await client.read_until_ended(*range(len(requests)))
    for number, request in enumerate(requests):
        expected = [event async for event in stub.Generate(request, timeout=TIMEOUT_S)]
        assert joined(client.events[number]) == joined(expected)
        assert client.ends[number] == pb.CallEnd()


async def test_the_events_of_a_step_are_one_frame_and_the_end_is_with_the_last(client: FrameClient) -> None:
    for number in range(8):
        await client.start(number, ask(seed=number, max_tokens=400))
    await client.read_until_ended(*range(8))
    assert len(client.frames) < 8 * 400 / 4
    for frame in client.frames:
        for index, event in enumerate(frame.events):
            if event.HasField("end"):
                before = [other for other in frame.events[:index] if other.call == event.call]
                assert pb.GenerateResponse.FromString(before[-1].response).HasField("finished")


async def test_an_error_ends_its_call_alone(client: FrameClient, stub: InferenceServiceStub) -> None:
    await client.start(1, ask(max_tokens=30))
    await client.start(2, ask(model="other"))
    await client.start(3, b"\xff\xff\xff")
    await client.start(4, ask(sampling=pb.SamplingParams(temperature=9)))
    await client.start(5, ask(), timeout_s=float("nan"))
    await client.read_until_ended(1, 2, 3, 4, 5)
    assert client.ends[1] == pb.CallEnd()
    assert not {2, 3, 4, 5} & client.events.keys()
    assert error_of(client.ends[3]).reason == "MALFORMED_MESSAGE"
    assert list(error_of(client.ends[5]).fields) == ["start.timeout_s"]
    for number, request in ((2, ask(model="other")), (4, ask(sampling=pb.SamplingParams(temperature=9)))):
        expected = from_rpc_error(await failure(stub.Generate(request, timeout=TIMEOUT_S).read()))
        got = error_of(client.ends[number])
        assert (got.code, got.message, got.reason) == (expected.code, expected.message, expected.reason)
        assert (got.metadata, got.fields) == (expected.metadata, expected.fields)


async def test_cancel_frees_the_blocks_and_tells_nothing_more(client: FrameClient, stubs: WorkerStubs) -> None:
    for number in (1, 2):
        await client.start(number, ask(max_tokens=1000, seed=number))
    await client.read_until_begun(1, 2)
    await client.cancel(1)
    await client.cancel(77)
    await stubs.report_when(lambda report: report.load.running == 1)
    await client.start(3, ask())
    await client.read_until_ended(3)
    seen = len(client.events[1])
    await client.cancel(2)
    await stubs.report_when(idle)
    await client.stream.done_writing()
    await client.exhaust()
    assert len(client.events[1]) == seen
    assert client.ends.keys() == {3}


async def test_a_call_out_of_time_fails_and_frees_its_blocks(client: FrameClient, stubs: WorkerStubs) -> None:
    await client.start(1, ask(max_tokens=4000), timeout_s=0.1)
    await client.start(2, ask(), timeout_s=0)
    await client.start(3, ask(), timeout_s=float("inf"))
    await client.read_until_ended(1, 2, 3)
    assert [client.ends[number].code for number in (1, 2, 3)] == [Code.DEADLINE_EXCEEDED] * 2 + [Code.OK]
    assert error_of(client.ends[1]).code is Code.DEADLINE_EXCEEDED
    assert client.events[1]
    await stubs.report_when(idle)


async def test_a_number_that_was_used_ends_once_with_an_error(client: FrameClient, stubs: WorkerStubs) -> None:
    await client.start(7, ask(max_tokens=4000))
    await client.read_until_begun(7)
    await client.start(7, ask())
    await client.read_until_ended(7)
    assert list(error_of(client.ends[7]).fields) == ["start.call"]
    await stubs.report_when(idle)
    await client.start(3, ask())
    await client.start(8, ask())
    await client.read_until_ended(3, 8)
    assert (client.ends[3].code, client.ends[8].code) == (Code.INVALID_ARGUMENT, Code.OK)


async def test_a_broken_stream_cancels_its_calls_only(worker: WorkerProcess, stubs: WorkerStubs) -> None:
    async with grpc.aio.insecure_channel(await worker.ready(), options=CHANNEL_OPTIONS) as channel:
        broken, other = FrameClient(InferenceServiceStub(channel)), FrameClient(stubs.inference)
        await other.start(1, ask(max_tokens=300))
        for number in (1, 2):
            await broken.start(number, ask(max_tokens=1000))
        await broken.read_until_begun(1, 2)
    async with asyncio.timeout(TIMEOUT_S):
        await other.read_until_ended(1)
        await stubs.report_when(idle)
    assert other.ends[1] == pb.CallEnd()
    other.stream.cancel()
    await worker.wait_for("rpc", method="/infermesh.inference.v1.InferenceService/GenerateMany", code="CANCELLED")
    assert not [line for line in worker.log if line.get("level") == "error"]


@pytest.mark.parametrize("command", [b"\xff\xff", b""])
async def test_what_is_no_command_ends_the_stream(stubs: WorkerStubs, worker: WorkerProcess, command: bytes) -> None:
    async with grpc.aio.insecure_channel(await worker.ready(), options=CHANNEL_OPTIONS) as channel:
        stream = channel.stream_stream("/infermesh.inference.v1.InferenceService/GenerateMany")(timeout=TIMEOUT_S)
        start = pb.CallStart(call=1, request=ask(max_tokens=1000).SerializeToString())
        await stream.write(pb.GenerateManyRequest(start=start).SerializeToString())
        assert pb.GenerateManyResponse.FromString(await stream.read()).takes_more
        await stubs.report_when(lambda report: report.load.running == 1)
        await stream.write(command)
        assert (await failure(exhaust(stream))).code() is grpc.StatusCode.INVALID_ARGUMENT
        await stubs.report_when(idle)


async def test_half_closing_ends_the_stream_after_its_last_call(client: FrameClient) -> None:
    await client.start(1, ask(max_tokens=60))
    await client.stream.done_writing()
    await client.exhaust()
    assert client.ends == {1: pb.CallEnd()}
    assert await client.stream.code() is grpc.StatusCode.OK


async def test_calls_are_logged_and_counted_as_generate(worker: WorkerProcess, client: FrameClient) -> None:
    await client.start(1, ask(), request_id="of-a-frame")
    await client.start(2, ask(model="none"), request_id="of-a-bad-one")
    await client.read_until_ended(1, 2)

    good = await worker.wait_for("rpc", request_id="of-a-frame")
    bad = await worker.wait_for("rpc", request_id="of-a-bad-one")
    assert good["method"] == bad["method"] == "/infermesh.inference.v1.InferenceService/Generate"
    assert (good["code"], bad["code"]) == ("OK", "NOT_FOUND")
    assert good["peer"].startswith("ipv4:127.0.0.1:")


async def test_a_stopping_worker_ends_its_calls_and_then_the_streams() -> None:
    async with (
        simulated_worker_process(sim_itl_s=0.002, sim_slope_s=0, drain_s=0.3) as worker,
        connected(worker) as stubs,
    ):
        client, silent = FrameClient(stubs.inference), FrameClient(stubs.inference)
        await client.start(1, ask(max_tokens=4000))
        await client.read_until_begun(1)
        await silent.read()
        stopping = asyncio.create_task(worker.stop())
        await stubs.report_when(lambda report: report.state == pb.ENDPOINT_STATE_DRAINING)
        await client.start(2, ask())
        await client.read_until_ended(1, 2)
        assert error_of(client.ends[1]).code is Code.UNAVAILABLE
        assert error_of(client.ends[2]).reason == "WORKER_DRAINING"
        for stream in (client, silent):
            assert from_rpc_error(await failure(stream.exhaust())).reason == "SERVER_STOPPED"
        assert await stopping == 0


async def test_a_slow_reader_gets_merged_deltas_and_stops_nobody_else(
    worker: WorkerProcess, stubs: WorkerStubs, client: FrameClient
) -> None:
    window = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16))
    requests = [ask(seed=seed, max_tokens=300, logprobs=pb.LogprobsOptions(top=20)) for seed in range(3)]
    async with grpc.aio.insecure_channel(await worker.ready(), options=(*CHANNEL_OPTIONS, *window)) as channel:
        slow = FrameClient(InferenceServiceStub(channel))
        for number, request in enumerate(requests):
            await slow.start(number, request)
        await slow.read_until_begun(*range(3))
        await client.start(0, ask(max_tokens=300))
        await client.read_until_ended(0)
        assert client.ends[0] == pb.CallEnd()
        await stubs.report_when(idle)  # all have run to their end, although nobody has read them
        await slow.read_until_ended(*range(3))
        for number, request in enumerate(requests):
            expected = [event async for event in stubs.inference.Generate(request, timeout=TIMEOUT_S)]
            assert joined(slow.events[number]) == joined(expected)
            assert len(slow.events[number]) < 250
