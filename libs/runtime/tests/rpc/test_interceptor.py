"""What a client of a real server sees when handlers succeed, fail, are cancelled or run out of time."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc
from infermesh_runtime import errors, logs
from infermesh_runtime.errors import Code
from infermesh_runtime.rpc import status
from infermesh_runtime.rpc.interceptor import log_access

if TYPE_CHECKING:
    from libs.runtime.tests.conftest import Serve

SERVICE = "/infermesh.inference.v1.InferenceService"
SETTLE_S = 5


def delta(text: str) -> pb.GenerateResponse:
    return pb.GenerateResponse(delta=pb.Delta(text=text))


class Servicer(inference_pb2_grpc.InferenceServiceServicer):
    """Raises `error` from every method, after one message if `late`; without one, waits until interrupted."""

    def __init__(self, error: BaseException | None = None, *, late: bool = False) -> None:
        self.error = error
        self.late = late
        self.ended = asyncio.Event()
        self.caught: BaseException | None = None
        self.request_id = ""

    async def Health(self, request: pb.HealthRequest, context: Any) -> pb.HealthResponse:
        self.request_id = logs.REQUEST_ID.get()
        if self.error:
            raise self.error
        return pb.HealthResponse(report=pb.HealthReport(version="1"))

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        try:  # a cancel may strike at the yield, too: while the message is being written
            if self.late or not self.error:
                yield delta("a")
            if self.error:
                raise self.error
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            self.caught = error
            raise
        finally:
            self.ended.set()

    async def WatchHealth(self, request: pb.WatchHealthRequest, context: Any) -> None:
        """A handler in coroutine form, which is in a write when it is interrupted."""
        try:
            while True:
                await context.write(pb.WatchHealthResponse(report=pb.HealthReport(message="x" * 100_000)))
        except asyncio.CancelledError as error:
            self.caught = error
            raise
        finally:
            self.ended.set()


async def fail(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await (exhaust(call) if hasattr(call, "read") else call)
    return failed.value


async def exhaust(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_success_echoes_the_request_id_in_initial_metadata(serve: "Serve") -> None:
    servicer = Servicer()
    async with serve(servicer) as running:
        call = running.stub.Health(pb.HealthRequest(), metadata=(("x-request-id", "mine"),))
        assert (await call).report.version == "1"
        assert dict(await call.initial_metadata())["x-request-id"] == "mine" == servicer.request_id
    (rpc,) = running.rpcs
    assert (rpc.method, rpc.known, rpc.code, rpc.request_id) == (f"{SERVICE}/Health", True, Code.OK, "mine")
    assert rpc.peer.startswith("ipv4:127.0.0.1:")
    assert 0 < rpc.duration_s < 5


async def test_a_request_id_is_made_when_absent_and_cut_when_long(serve: "Serve") -> None:
    async with serve(Servicer()) as running:
        await running.stub.Health(pb.HealthRequest())
        await running.stub.Health(pb.HealthRequest(), metadata=(("x-request-id", "y" * 1000),))
    assert len(running.rpcs[0].request_id) == 32
    assert running.rpcs[1].request_id == "y" * 128


async def test_as_many_headers_as_envoy_lets_through_are_taken(serve: "Serve") -> None:
    async with serve(Servicer()) as running:
        for size in [12_000] * 10 + [120_000]:
            await running.stub.Health(pb.HealthRequest(), metadata=(("cookie", "c" * size),))


@pytest.mark.parametrize("method", ["Health", "Generate"])
async def test_an_error_is_its_status_with_details_and_headers(serve: "Serve", method: str) -> None:
    metadata, fields = {"model": "x"}, {"model": "unknown"}
    error = errors.ModelNotFound("no model 'x'", metadata=metadata, fields=fields, retry_after_s=2.5)
    async with serve(Servicer(error)) as running:
        request = pb.HealthRequest() if method == "Health" else pb.GenerateRequest()
        failed = await fail(getattr(running.stub, method)(request, metadata=(("x-request-id", "r"),)))
    assert (failed.code(), failed.details()) == (grpc.StatusCode.NOT_FOUND, "no model 'x'")
    trailing = dict(failed.trailing_metadata())
    assert (trailing["retry-after"], trailing["x-request-id"]) == ("3", "r")
    assert not tuple(failed.initial_metadata())
    got = status.from_rpc_error(failed)
    assert type(got) is errors.ModelNotFound
    assert (got.metadata, got.fields, got.retry_after_s) == (metadata, fields, 2.5)
    assert running.rpcs[0].code is Code.NOT_FOUND


async def test_an_error_after_a_message_is_its_status_too(serve: "Serve") -> None:
    async with serve(Servicer(errors.Unavailable("engine died", reason="ENGINE_CRASHED"), late=True)) as running:
        call = running.stub.Generate(pb.GenerateRequest())
        assert (await call.read()).delta.text == "a"
        got = status.from_rpc_error(await fail(call))
    assert (type(got), got.reason) == (errors.Unavailable, "ENGINE_CRASHED")


async def test_an_unknown_exception_is_internal_and_its_traceback_stays_here(
    serve: "Serve", caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(Servicer(ZeroDivisionError("secret"))) as running:
        failed = await fail(running.stub.Health(pb.HealthRequest(), metadata=(("x-request-id", "r-7"),)))
    assert failed.code() is grpc.StatusCode.INTERNAL
    assert "r-7" in failed.details()
    assert "secret" not in str(failed)
    assert status.from_rpc_error(failed).metadata == {"request_id": "r-7"}
    assert [r.exc_info[0] for r in caplog.records if r.exc_info] == [ZeroDivisionError]


@pytest.mark.parametrize("method", ["Generate", "WatchHealth"])
async def test_a_cancel_reaches_the_handler_and_is_no_error(
    serve: "Serve", caplog: pytest.LogCaptureFixture, method: str
) -> None:
    servicer = Servicer()
    async with serve(servicer) as running:
        request = pb.GenerateRequest() if method == "Generate" else pb.WatchHealthRequest()
        call = getattr(running.stub, method)(request)
        await call.read()
        call.cancel()
        await asyncio.wait_for(servicer.ended.wait(), SETTLE_S)
    assert isinstance(servicer.caught, asyncio.CancelledError)
    assert [rpc.code for rpc in running.rpcs] == [Code.CANCELLED]
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_a_cancel_at_a_yield_reaches_the_generator_as_cancellederror(serve: "Serve") -> None:
    class Flood(Servicer):
        async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
            try:
                while True:
                    yield delta("x" * 100_000)
            except asyncio.CancelledError as error:
                self.caught = error
                raise
            finally:
                self.ended.set()

    servicer = Flood()
    async with serve(servicer) as running:
        call = running.stub.Generate(pb.GenerateRequest())
        await call.read()
        call.cancel()
        await asyncio.wait_for(servicer.ended.wait(), SETTLE_S)
    assert isinstance(servicer.caught, asyncio.CancelledError)
    assert [rpc.code for rpc in running.rpcs] == [Code.CANCELLED]


async def test_a_client_that_vanishes_cancels_the_handler(serve: "Serve") -> None:
    servicer = Servicer()
    async with serve(servicer) as running:
        channel = grpc.aio.insecure_channel(running.address)
        call = inference_pb2_grpc.InferenceServiceStub(channel).Generate(pb.GenerateRequest())
        await call.read()
        await channel.close()
        await asyncio.wait_for(servicer.ended.wait(), SETTLE_S)
    assert [rpc.code for rpc in running.rpcs] == [Code.CANCELLED]


async def test_an_expired_deadline_cancels_the_handler_and_is_called_so(serve: "Serve") -> None:
    servicer = Servicer()
    async with serve(servicer) as running:
        failed = await fail(running.stub.Generate(pb.GenerateRequest(), timeout=0.2))
        await asyncio.wait_for(servicer.ended.wait(), SETTLE_S)
    assert failed.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert isinstance(servicer.caught, asyncio.CancelledError)
    assert [rpc.code for rpc in running.rpcs] == [Code.DEADLINE_EXCEEDED]


async def test_a_cancelled_error_of_somebody_else_is_unavailable_not_a_hang(serve: "Serve") -> None:
    async with serve(Servicer(asyncio.CancelledError())) as running:
        failed = await fail(running.stub.Health(pb.HealthRequest(), timeout=SETTLE_S))
    assert failed.code() is grpc.StatusCode.UNAVAILABLE
    assert status.from_rpc_error(failed).reason == "CALL_ABANDONED"
    assert [rpc.code for rpc in running.rpcs] == [Code.UNAVAILABLE]


async def test_a_malformed_message_is_invalid_argument(serve: "Serve") -> None:
    async with serve(Servicer()) as running:
        raw = running.channel.unary_stream(f"{SERVICE}/Generate")
        failed = await fail(raw(b"\xff\xff\xff\xff"))
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert status.from_rpc_error(failed).reason == "MALFORMED_MESSAGE"


async def test_a_call_without_a_message_is_answered(serve: "Serve") -> None:
    async with serve(Servicer()) as running:
        call = running.channel.stream_stream(f"{SERVICE}/Health")(timeout=SETTLE_S)
        await call.done_writing()
        assert (await fail(call)).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_method_that_is_not_there_is_unimplemented(serve: "Serve") -> None:
    async with serve(Servicer()) as running:
        failed = await fail(running.channel.unary_unary("/no.Such/Method")(b""))
        inherited = await fail(running.stub.Embed(pb.EmbedRequest()))
    assert failed.code() is inherited.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "/no.Such/Method" in failed.details()
    assert [(rpc.known, rpc.code) for rpc in running.rpcs] == [(False, Code.UNIMPLEMENTED), (True, Code.UNIMPLEMENTED)]


async def test_the_access_log_is_one_line_an_rpc(serve: "Serve") -> None:
    async with serve(Servicer(errors.NotFound("x"))) as running:
        await fail(running.stub.Health(pb.HealthRequest(), metadata=(("x-request-id", "r"),)))
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logger = logging.getLogger("infermesh.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        log_access(running.rpcs[0])
    finally:
        logger.removeHandler(handler)
    line = json.loads(stream.getvalue())
    assert (line["method"], line["code"], line["request_id"]) == (f"{SERVICE}/Health", "NOT_FOUND", "r")
    assert line["peer"].startswith("ipv4:")
    assert line["duration_ms"] > 0


async def test_error_details_are_readable_by_any_client(serve: "Serve") -> None:
    async with serve(Servicer(errors.InvalidArgument("bad", fields={"n": "must be ≥ 1"}, retry_after_s=1))) as running:
        failed = await fail(running.stub.Health(pb.HealthRequest()))
    rich = status_pb2.Status.FromString(dict(failed.trailing_metadata())["grpc-status-details-bin"])
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in rich.details:
        assert detail.Unpack(info) or detail.Unpack(bad) or detail.Unpack(retry)
    assert (info.domain, info.reason) == ("infermesh", "INVALID_ARGUMENT")
    assert [(v.field, v.description) for v in bad.field_violations] == [("n", "must be ≥ 1")]
    assert retry.retry_delay.seconds == 1
