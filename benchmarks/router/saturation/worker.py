"""A worker without a model: each of its streams gets a token every step, whether the reader keeps up or not.

`python -m benchmarks.router.saturation.worker --listen 127.0.0.1:9000`. What the streams' reader has not taken is
merged and framed by the worker's own code. Tokens are numbered, so that a client sees whether one is missing.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests.output import Finished, FinishReason, Timings
from infermesh_runtime.rpc.interceptor import RpcInterceptor
from infermesh_runtime.rpc.options import SERVER_OPTIONS
from infermesh_worker.engine_client.output_stream import OutputStream
from infermesh_worker.engine_client.request_meter import RequestTiming
from infermesh_worker.rpc.streams.frame_stream import Behaviour, FrameStream
from infermesh_worker.rpc.streams.framed_call import FramedCall
from infermesh_worker.rpc.streams.single import write_responses

STEP_S = 0.008
"""Each stream gets a token this often."""
PROMPT_TOKENS = 5
SERVICE = "infermesh.inference.v1.InferenceService"


def word(index: int) -> str:
    """The text of a stream's token."""
    return f" w{index}"


class Pace:
    """Pushes a token into every open stream at each step, and the steps that are overdue at once."""

    def __init__(self) -> None:
        self._open: dict[OutputStream, tuple[int, float]] = {}
        """Of each stream, how many tokens it wants, and when it began."""
        self._pushed: dict[OutputStream, int] = {}

    def begin(self, tokens: int) -> OutputStream:
        """A stream of so many tokens, which begin with the next step."""
        now_s = asyncio.get_running_loop().time()
        stream = OutputStream(1, RequestTiming(now_s, PROMPT_TOKENS))
        self._open[stream], self._pushed[stream] = (tokens, now_s), 0
        return stream

    def end(self, stream: OutputStream) -> None:
        """Stops a stream, complete or not."""
        self._open.pop(stream, None)
        self._pushed.pop(stream, None)

    async def run(self) -> None:
        """Runs the steps, for ever."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s += STEP_S
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            for stream, (tokens, began_s) in tuple(self._open.items()):
                index = self._pushed[stream]
                self._pushed[stream] = index + 1
                stream.push(("", 0, word(index), [index], []))
                if index + 1 == tokens:
                    stream.finish(_finished(tokens, loop.time() - began_s))
                    self.end(stream)


def _finished(tokens: int, seconds: float) -> Finished:
    timings = Timings(
        prompt_tokens=PROMPT_TOKENS, prompt_ms=0.0, completion_tokens=tokens, completion_ms=seconds * 1000
    )
    return Finished("", 0, FinishReason.LENGTH, "", PROMPT_TOKENS, tokens, timings=timings)


class OfferingServicer:
    """The InferenceService, as far as a router needs it."""

    def __init__(self, model: str, pace: Pace) -> None:
        self._model = model
        self._pace = pace

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> None:
        """Writes serialised responses."""
        stream = self._pace.begin(request.stop.max_tokens)
        try:
            await write_responses(stream, self._started(), context)
        finally:
            self._pace.end(stream)

    async def GenerateMany(self, requests: object, context: Any) -> None:  # noqa: ARG002 - the context reads them
        """Reads and writes serialised messages."""
        await FrameStream(context, self._framed).run()

    def _framed(self, call: FramedCall) -> Behaviour:
        async def generate(request: pb.GenerateRequest, _context: object) -> None:
            stream = self._pace.begin(request.stop.max_tokens)
            try:
                await call.deliver(stream, self._started())
            finally:
                self._pace.end(stream)

        return generate

    async def WatchHealth(
        self,
        request: pb.WatchHealthRequest,  # noqa: ARG002 - the contract's signature
        context: object,  # noqa: ARG002
    ) -> AsyncIterator[pb.WatchHealthResponse]:
        """Reports once that it is ready."""
        ready = pb.ENDPOINT_STATE_READY
        model = pb.ModelStatus(name=self._model, state=ready, context_length=1 << 20)
        device = pb.Device(kind=pb.DEVICE_KIND_CPU)
        yield pb.WatchHealthResponse(report=pb.HealthReport(state=ready, device=device, models=[model]))
        await asyncio.Event().wait()

    def _started(self) -> pb.Started:
        return pb.Started(model=self._model, device=pb.DEVICE_KIND_CPU, prompt_tokens=PROMPT_TOKENS)


def handlers(servicer: OfferingServicer) -> grpc.GenericRpcHandler:
    """Its methods, with the serialisers that a worker has."""
    read, watch, written = pb.GenerateRequest.FromString, pb.WatchHealthRequest, pb.WatchHealthResponse
    stream = grpc.unary_stream_rpc_method_handler
    methods = {
        "Generate": stream(servicer.Generate, read),
        "GenerateMany": grpc.stream_stream_rpc_method_handler(servicer.GenerateMany),
        "WatchHealth": stream(servicer.WatchHealth, watch.FromString, written.SerializeToString),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


async def serve(listen: str, model: str) -> None:
    """Serves until the process ends."""
    pace = Pace()
    server = grpc.aio.server(interceptors=[RpcInterceptor(())], options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers([handlers(OfferingServicer(model, pace))])
    server.add_insecure_port(listen)
    await server.start()
    await pace.run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.router.saturation.worker", description=__doc__)
    parser.add_argument("--listen", required=True, help="host:port")
    parser.add_argument("--model", default="offered", help="name of the model that it claims to have")
    options = parser.parse_args()
    uvloop.run(serve(options.listen, options.model))


if __name__ == "__main__":
    main()
