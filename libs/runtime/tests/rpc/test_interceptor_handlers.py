"""What a client of a real server sees of handlers that abort, set a status or metadata, or break the rules."""

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc
from infermesh_runtime import errors
from infermesh_runtime.errors import Code
from infermesh_runtime.rpc.options import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from libs.runtime.tests.conftest import Serve

SERVICE = "/infermesh.inference.v1.InferenceService"


async def fail(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value


async def test_an_abort_of_the_handler_passes(serve: "Serve") -> None:
    class Aborting(inference_pb2_grpc.InferenceServiceServicer):
        async def Health(self, request: pb.HealthRequest, context: Any) -> None:
            await context.abort(grpc.StatusCode.ABORTED, "so", (("k", "v"),))

    async with serve(Aborting()) as running:
        failed = await fail(running.stub.Health(pb.HealthRequest()))
    assert (failed.code(), failed.details()) == (grpc.StatusCode.ABORTED, "so")
    assert dict(failed.trailing_metadata())["k"] == "v"
    assert running.rpcs[0].code is Code.ABORTED


async def test_metadata_of_the_handler_is_kept(serve: "Serve") -> None:
    class Telling(inference_pb2_grpc.InferenceServiceServicer):
        async def Health(self, request: pb.HealthRequest, context: Any) -> pb.HealthResponse:
            await context.send_initial_metadata((("a", "1"),))
            context.set_trailing_metadata((("b", "2"),))
            raise errors.Unavailable("x")

    async with serve(Telling()) as running:
        failed = await fail(running.stub.Health(pb.HealthRequest()))
    assert dict(failed.initial_metadata()).keys() == {"a", "x-request-id"}
    assert dict(failed.trailing_metadata())["b"] == "2"
    assert "x-request-id" not in dict(failed.trailing_metadata())


async def test_messages_up_to_64_mib_pass_and_larger_ones_are_refused(serve: "Serve") -> None:
    class Echo(inference_pb2_grpc.InferenceServiceServicer):
        async def Infer(self, request: pb.InferRequest, context: Any) -> pb.InferResponse:
            return pb.InferResponse(model=request.model)

    async with serve(Echo()) as running:
        size = MAX_MESSAGE_BYTES
        got = await running.stub.Infer(pb.InferRequest(model="x" * (size - 10)))
        assert len(got.model) == size - 10
        big = running.channel.unary_unary(f"{SERVICE}/Infer")
        async with grpc.aio.insecure_channel(
            running.address, options=[("grpc.max_send_message_length", -1)]
        ) as channel:
            big = channel.unary_unary(f"{SERVICE}/Infer")
            failed = await fail(big(bytes(size + 1), timeout=30))
    assert failed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_sync_handler_is_a_fault_of_ours(serve: "Serve", caplog: pytest.LogCaptureFixture) -> None:
    class Sync(inference_pb2_grpc.InferenceServiceServicer):
        def Health(self, request: pb.HealthRequest, context: Any) -> pb.HealthResponse:
            return pb.HealthResponse()

    async with serve(Sync()) as running:
        failed = await fail(running.stub.Health(pb.HealthRequest()))
    assert failed.code() is grpc.StatusCode.INTERNAL
    assert "coroutine" in caplog.text


async def test_a_handler_that_returns_nothing_is_a_fault_of_ours(
    serve: "Serve", caplog: pytest.LogCaptureFixture
) -> None:
    class Forgetful(inference_pb2_grpc.InferenceServiceServicer):
        async def Health(self, request: pb.HealthRequest, context: Any) -> None:
            pass

    async with serve(Forgetful()) as running:
        failed = await fail(running.stub.Health(pb.HealthRequest()))
    assert failed.code() is grpc.StatusCode.INTERNAL
    assert [rpc.code for rpc in running.rpcs] == [Code.INTERNAL]


async def test_a_status_set_by_the_handler_is_kept(serve: "Serve") -> None:
    class Setting(inference_pb2_grpc.InferenceServiceServicer):
        async def Health(self, request: pb.HealthRequest, context: Any) -> None:
            context.set_code(grpc.StatusCode.OUT_OF_RANGE)
            context.set_details("far")

    async with serve(Setting()) as running:
        failed = await fail(running.stub.Health(pb.HealthRequest()))
    assert (failed.code(), failed.details()) == (grpc.StatusCode.OUT_OF_RANGE, "far")
    assert [rpc.code for rpc in running.rpcs] == [Code.OUT_OF_RANGE]
