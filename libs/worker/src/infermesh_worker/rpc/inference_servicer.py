"""gRPC service that runs requests on a worker's models and reports its health."""

# ruff: noqa: ARG002 - gRPC fixes the signatures of RPCs

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.rpc.context import RpcContext
from infermesh_worker.engine_client.output_stream import OutputStream
from infermesh_worker.hosting.worker_status import WorkerStatus
from infermesh_worker.rpc.audio.speak import speak
from infermesh_worker.rpc.audio.transcribe import transcribe
from infermesh_worker.rpc.convert import check_device, count_sequences, to_generation, to_started
from infermesh_worker.rpc.prompts.told_prompt import tell_prompt, tell_style
from infermesh_worker.rpc.streams.frame_stream import Behaviour, FrameStream
from infermesh_worker.rpc.streams.framed_call import FramedCall
from infermesh_worker.rpc.streams.single import write_responses
from infermesh_worker.rpc.tensors.infer import infer
from infermesh_worker.rpc.texts.embed import embed
from infermesh_worker.rpc.texts.score import score
from infermesh_worker.rpc.tokenizing import detokenize, tokenize
from infermesh_worker.worker import Worker

DEFAULT_INTERVAL_MS = 100


Deliver = Callable[[OutputStream, pb.Started], Awaitable[None]]
"""Sends the events of a request to its client."""
SERVICE = "infermesh.inference.v1.InferenceService"


class InferenceServicer:
    """infermesh.inference.v1.InferenceService over a worker's models."""

    def __init__(
        self,
        worker: Worker,
        report: Callable[[WorkerStatus], pb.HealthReport],
        json_objects: Literal["closed", "open"] = "closed",
    ) -> None:
        """`report` converts a status to a health report. `json_objects`: for requests that do not say."""
        self._worker = worker
        self._open_objects = json_objects == "open"
        self._report = report

    async def Generate(self, request: pb.GenerateRequest, context: RpcContext) -> None:
        """Writes serialised responses."""
        await self._generate(request, partial(write_responses, context=context))

    async def GenerateMany(self, requests: object, context: RpcContext) -> None:
        """Reads and writes serialised messages."""
        await FrameStream(context, self._generate_framed).run()

    def _generate_framed(self, call: FramedCall) -> Behaviour:
        async def generate(request: pb.GenerateRequest, _context: RpcContext) -> None:
            await self._generate(request, call.deliver)

        return generate

    async def _generate(self, request: pb.GenerateRequest, deliver: Deliver) -> None:
        with self._worker.use(request.model) as hosted:
            info, model = hosted.client.require_ready(), hosted.opened
            request_id = hosted.client.new_request_id()
            with self._worker.models.place(hosted, count_sequences(request)):
                generation = await to_generation(
                    request, request_id=request_id, model=model, info=info, open_objects=self._open_objects
                )
            started = to_started(generation, model, info)
            tell_prompt(started, request, generation, model)
            await tell_style(started, request, generation, model)
            with hosted.client.open(generation) as stream:
                await deliver(stream, started)

    async def Embed(self, request: pb.EmbedRequest, context: RpcContext) -> pb.EmbedResponse:
        return await embed(self._worker, request, context.time_remaining())

    async def Score(self, request: pb.ScoreRequest, context: RpcContext) -> pb.ScoreResponse:
        return await score(self._worker, request, context.time_remaining())

    async def Infer(self, request: bytes, context: RpcContext) -> bytes:
        """Takes and gives serialised messages, so that tensors are copied once each way."""
        return await infer(self._worker, request, context.time_remaining())

    async def Transcribe(self, request: pb.TranscribeRequest, context: RpcContext) -> None:
        await transcribe(self._worker, request, context)

    async def Speak(self, request: pb.SpeakRequest, context: RpcContext) -> None:
        await speak(self._worker, request, context)

    async def Tokenize(self, request: pb.TokenizeRequest, context: RpcContext) -> pb.TokenizeResponse:
        with self._worker.use(request.model) as hosted:
            info = hosted.client.require_ready()
            check_device(request.device, info)
            return await tokenize(request, hosted.opened, info)

    async def Detokenize(self, request: pb.DetokenizeRequest, context: RpcContext) -> pb.DetokenizeResponse:
        with self._worker.use(request.model) as hosted:
            info = hosted.client.require_ready()
            check_device(request.device, info)
            return await detokenize(request, hosted.opened, info)

    async def Health(self, request: pb.HealthRequest, context: RpcContext) -> pb.HealthResponse:
        return pb.HealthResponse(report=self._report(self._worker.status.value))

    async def WatchHealth(self, request: pb.WatchHealthRequest, context: RpcContext) -> None:
        interval_s = (request.min_interval_ms or DEFAULT_INTERVAL_MS) / 1000
        async for status in self._worker.status.changes(interval_s):
            await context.write(pb.WatchHealthResponse(report=self._report(status)))


def inference_handlers(servicer: InferenceServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The service's methods. Those that work on bytes have no serialisers."""
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    return {
        "Generate": stream(servicer.Generate, pb.GenerateRequest.FromString),
        "GenerateMany": grpc.stream_stream_rpc_method_handler(servicer.GenerateMany),
        "Embed": unary(servicer.Embed, pb.EmbedRequest.FromString, pb.EmbedResponse.SerializeToString),
        "Score": unary(servicer.Score, pb.ScoreRequest.FromString, pb.ScoreResponse.SerializeToString),
        "Infer": unary(servicer.Infer),
        "Transcribe": stream(
            servicer.Transcribe, pb.TranscribeRequest.FromString, pb.TranscribeResponse.SerializeToString
        ),
        "Speak": stream(servicer.Speak, pb.SpeakRequest.FromString, pb.SpeakResponse.SerializeToString),
        "Tokenize": unary(servicer.Tokenize, pb.TokenizeRequest.FromString, pb.TokenizeResponse.SerializeToString),
        "Detokenize": unary(
            servicer.Detokenize, pb.DetokenizeRequest.FromString, pb.DetokenizeResponse.SerializeToString
        ),
        "Health": unary(servicer.Health, pb.HealthRequest.FromString, pb.HealthResponse.SerializeToString),
        "WatchHealth": stream(
            servicer.WatchHealth, pb.WatchHealthRequest.FromString, pb.WatchHealthResponse.SerializeToString
        ),
    }
