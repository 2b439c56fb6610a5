"""The memory for requests in progress: counted before they are read, and given back when they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc
from infermesh_runtime.errors import DeadlineExceeded, ResourceExhausted
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.limits.body_budget import RETRY_AFTER_S, SIZE_KEY, SMALL_BYTES, BodyBudget
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS
from infermesh_runtime.rpc.server import Server
from infermesh_runtime.rpc.status import from_rpc_error

MIB = 1 << 20
GENERATE = "/infermesh.inference.v1.InferenceService/Generate"


@dataclass
class FakeContext:
    """What the budget asks of a call."""

    metadata: dict[str, str] = field(default_factory=dict)
    address: str = "ipv4:10.0.0.1:5000"

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return list(self.metadata.items())

    def peer(self) -> str:
        return self.address


def sized(size: int, client: str = "10.0.0.1") -> FakeContext:
    return FakeContext({SIZE_KEY: str(size), "x-forwarded-for": f"1.2.3.4, {client}"})


@pytest.fixture
def budget() -> BodyBudget:
    return BodyBudget(total_bytes=300 * MIB, client_bytes=150 * MIB)


def test_a_message_counts_three_times_then_once_then_not(budget: BodyBudget) -> None:
    with budget.expect(sized(10 * MIB)) as share:
        assert budget.held_bytes == 30 * MIB
        share.arrived(10 * MIB)
        share.keep(10 * MIB)
        assert budget.held_bytes == 10 * MIB
    assert budget.held_bytes == 0


def test_one_client_cannot_take_everything(budget: BodyBudget) -> None:
    with budget.expect(sized(40 * MIB, "a")):
        with pytest.raises(ResourceExhausted, match="Your requests") as refused:
            budget.expect(sized(40 * MIB, "a"))
        assert refused.value.retry_after_s == RETRY_AFTER_S
        with budget.expect(sized(40 * MIB, "b")), pytest.raises(ResourceExhausted, match="The requests in progress"):
            budget.expect(sized(40 * MIB, "c"))
    assert budget.held_bytes == 0


def test_a_message_larger_than_the_budget_is_taken_when_nothing_else_is(budget: BodyBudget) -> None:
    with budget.expect(sized(200 * MIB)):
        pass
    with budget.expect(sized(1 * MIB, "b")), pytest.raises(ResourceExhausted):
        budget.expect(sized(200 * MIB, "a"))


def test_small_messages_are_never_refused(budget: BodyBudget) -> None:
    with budget.expect(sized(60 * MIB)), budget.expect(sized(SMALL_BYTES)):
        assert budget.held_bytes == 3 * (60 * MIB + SMALL_BYTES)


@pytest.mark.parametrize("size", ["", "many", "-1", "9" * 400])
def test_a_size_that_is_no_number_counts_once_it_is_read(budget: BodyBudget, size: str) -> None:
    with budget.expect(FakeContext({SIZE_KEY: size})) as share:
        assert budget.held_bytes == 0
        share.arrived(MIB)
        assert budget.held_bytes == 3 * MIB


def test_a_hidden_size_is_found_out(budget: BodyBudget) -> None:
    with budget.expect(sized(40 * MIB)), budget.expect(sized(1)) as share, pytest.raises(ResourceExhausted):
        share.arrived(40 * MIB)


class Servicer(inference_pb2_grpc.InferenceServiceServicer):
    """Answers once it is let."""

    def __init__(self) -> None:
        self.called, self.go_on = asyncio.Event(), asyncio.Event()

    async def Generate(self, request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        self.called.set()
        await self.go_on.wait()
        yield pb.GenerateResponse()


@asynccontextmanager
async def serving(budget: BodyBudget) -> AsyncIterator[tuple[Servicer, grpc.aio.Channel]]:
    server, servicer = Server(listen="127.0.0.1:0", drain_s=0.2, bodies=budget), Servicer()
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
            yield servicer, channel
    finally:
        await server.stop()


async def test_a_call_without_room_is_refused_before_its_message_is_read() -> None:
    budget = BodyBudget(total_bytes=10 * MIB, client_bytes=10 * MIB)
    async with serving(budget) as (servicer, channel):
        generate = inference_pb2_grpc.InferenceServiceStub(channel).Generate
        first = generate(pb.GenerateRequest(text="x" * (3 * MIB)), metadata=((SIZE_KEY, str(3 * MIB)),))
        await asyncio.wait_for(servicer.called.wait(), 10)
        second = channel.stream_stream(GENERATE)(metadata=((SIZE_KEY, str(3 * MIB)),))  # sends nothing, ever
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await second.read()
        error = from_rpc_error(refused.value)
        assert isinstance(error, ResourceExhausted)
        assert (error.reason, error.retry_after_s) == ("BODIES_TOO_LARGE", RETRY_AFTER_S)
        servicer.go_on.set()
        assert [message async for message in first] == [pb.GenerateResponse()]
    assert budget.held_bytes == 0


async def test_a_message_that_does_not_arrive_ends_the_call() -> None:
    budget = BodyBudget(total_bytes=10 * MIB, client_bytes=10 * MIB, timeout_s=0.2)
    async with serving(budget) as (_, channel):
        call = channel.stream_stream(GENERATE)(metadata=((SIZE_KEY, str(3 * MIB)),))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        error = from_rpc_error(ended.value)
        assert isinstance(error, DeadlineExceeded)
        assert (error.reason, error.message) == ("REQUEST_TIMEOUT", "The request did not arrive within 0.2 s.")
    assert budget.held_bytes == 0
