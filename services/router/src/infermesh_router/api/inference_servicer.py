"""The router's InferenceService: relays calls as bytes, and reports the health of all endpoints as one."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.access.access import Access
from infermesh_router.access.visit import Visit
from infermesh_router.fleet.changes import Changes
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.requests.call import Call
from infermesh_router.requests.reader import RequestReader
from infermesh_runtime.rpc.context import RpcContext

SERVICE = "infermesh.inference.v1.InferenceService"


_DEFAULT_INTERVAL_MS = 100


class InferenceServicer:
    """InferenceService over all endpoints. All calls but those about health take and return serialised messages."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        access: Access,
        reader: RequestReader,
        changes: Changes,
        make_report: Callable[[], pb.HealthReport],
    ) -> None:
        self._dispatcher = dispatcher
        self._access = access
        self._reader = reader
        self._changes = changes
        self._make_report = make_report

    async def Generate(self, request: bytes, context: RpcContext) -> None:
        """Relays a stream. The client gets the bytes that came, except that `started` says which endpoint answers."""
        since_s = time.perf_counter()
        with self._access.entered(context) as visit:
            call = visit.admit(await self._reader.generate(request))
            del request  # the call has its own copy
            context.body.keep(len(call.body))
            async with self._dispatcher.generate(call, context.time_remaining(), since_s=since_s) as events:
                await _tell_limits(visit, context)
                async for message, _ in visit.watch(events):
                    await context.write(message)  # looked up each time: after the first message it is gRPC's own

    async def Embed(self, request: bytes, context: RpcContext) -> bytes:
        """Relays a call."""
        return await self._relay(self._reader.embed, request, context, counts=True)

    async def Score(self, request: bytes, context: RpcContext) -> bytes:
        """Relays a call."""
        return await self._relay(self._reader.score, request, context, counts=True)

    async def Infer(self, request: bytes, context: RpcContext) -> bytes:
        """Relays a call."""
        return await self._relay(self._reader.infer, request, context)

    async def Transcribe(self, request: bytes, context: RpcContext) -> None:
        """Relays a stream, as Generate does."""
        await self._relay_speech(self._reader.transcribe, request, context)

    async def Speak(self, request: bytes, context: RpcContext) -> None:
        """Relays a stream, as Generate does."""
        await self._relay_speech(self._reader.speak, request, context)

    async def Tokenize(self, request: bytes, context: RpcContext) -> bytes:
        """Relays a call."""
        return await self._relay(self._reader.tokenize, request, context)

    async def Detokenize(self, request: bytes, context: RpcContext) -> bytes:
        """Relays a call."""
        return await self._relay(self._reader.detokenize, request, context)

    async def _relay_speech(
        self, read: Callable[[bytes], Awaitable[Call]], request: bytes, context: RpcContext
    ) -> None:
        since_s = time.perf_counter()
        with self._access.entered(context) as visit:
            call = visit.admit(await read(request))
            del request
            context.body.keep(len(call.body))
            async with self._dispatcher.speech(call, context.time_remaining(), since_s=since_s) as events:
                await _tell_limits(visit, context)
                async for message, content in events:
                    if content.HasField("finished"):
                        visit.count_speech(content)
                    await context.write(message)

    async def _relay(
        self, read: Callable[[bytes], Awaitable[Call]], request: bytes, context: RpcContext, *, counts: bool = False
    ) -> bytes:
        """Relays a call. `counts`: whether its answer says how many tokens it used."""
        since_s = time.perf_counter()
        with self._access.entered(context) as visit:
            call = visit.admit(await read(request))
            context.body.keep(len(request))
            answer = await self._dispatcher.send(call, context.time_remaining(), since_s=since_s)
            if counts:
                visit.count_embedding(answer)
            await _tell_limits(visit, context)
            return answer

    async def Health(self, request: pb.HealthRequest, context: RpcContext) -> pb.HealthResponse:
        """Reports once."""
        return pb.HealthResponse(report=self._make_report())

    async def WatchHealth(
        self,
        request: pb.WatchHealthRequest,
        context: RpcContext,
    ) -> AsyncIterator[pb.WatchHealthResponse]:
        """Reports now and after every change."""
        interval_s = (request.min_interval_ms or _DEFAULT_INTERVAL_MS) / 1000
        async for report in self._changes.follow(self._make_report, interval_s):
            yield pb.WatchHealthResponse(report=report)


async def _tell_limits(visit: Visit, context: RpcContext) -> None:
    """Sends the initial metadata of a key with limits."""
    if headers := visit.headers:
        await context.send_initial_metadata(headers)


def inference_handlers(servicer: InferenceServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The service's methods. Those that are relayed have no serialisers: they work on bytes."""
    return {
        "Generate": grpc.unary_stream_rpc_method_handler(servicer.Generate),
        "Embed": grpc.unary_unary_rpc_method_handler(servicer.Embed),
        "Score": grpc.unary_unary_rpc_method_handler(servicer.Score),
        "Infer": grpc.unary_unary_rpc_method_handler(servicer.Infer),
        "Transcribe": grpc.unary_stream_rpc_method_handler(servicer.Transcribe),
        "Speak": grpc.unary_stream_rpc_method_handler(servicer.Speak),
        "Tokenize": grpc.unary_unary_rpc_method_handler(servicer.Tokenize),
        "Detokenize": grpc.unary_unary_rpc_method_handler(servicer.Detokenize),
        "Health": grpc.unary_unary_rpc_method_handler(
            servicer.Health, pb.HealthRequest.FromString, pb.HealthResponse.SerializeToString
        ),
        "WatchHealth": grpc.unary_stream_rpc_method_handler(
            servicer.WatchHealth, pb.WatchHealthRequest.FromString, pb.WatchHealthResponse.SerializeToString
        ),
    }
