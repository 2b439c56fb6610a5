"""A simulated worker inside a test's process that fails when and how the test says.

It runs the real engine on the simulated runner, in virtual time, and sends tokens as fast as it can: one in each delta,
or several where it guesses them ahead.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Failed, Finished, FinishReason, PromptLogprobs, TokenLogprob
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner, VirtualClock
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_runtime.errors import Internal, Unavailable
from infermesh_runtime.rpc.context import REQUEST_ID_KEY, RpcContext
from infermesh_runtime.rpc.interceptor import RpcInterceptor
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.convert import to_generation
from infermesh_worker.rpc.streams.frame_stream import FrameStream
from infermesh_worker.testing.link import Link
from infermesh_worker.testing.simulated import SimulatedSettings, opened_model
from infermesh_worker.testing.simulated_engine import END_OF_TEXT_ID, VOCAB_SIZE

# ruff: noqa: ARG002 - gRPC fixes the signatures of RPCs

CONTEXT_LENGTH = 1024
SERVICE = "infermesh.inference.v1.InferenceService"
_REASONS = {FinishReason.STOP: pb.FINISH_REASON_STOP, FinishReason.LENGTH: pb.FINISH_REASON_LENGTH}


class FaultKind(StrEnum):
    """How a stream fails."""

    CRASH = "crash"
    """Ends with UNAVAILABLE, as when the engine process dies."""
    INTERNAL = "internal"
    """Ends with INTERNAL."""
    END = "end"
    """Ends with status OK before all choices are finished."""
    SILENCE = "silence"
    """Sends nothing more and stays open, until the test cuts `link`."""
    MALFORMED = "malformed"
    """Sends bytes that are not a message."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A stream's failure, after the delta or end with which the client has so many tokens and ends of choices, from any
    worker."""

    kind: FaultKind
    events: int


@dataclass(slots=True)
class FaultyWorker:
    """A worker at `address`, once started. When workers share `faults`, only one of them fails each request."""

    faults: dict[str, Fault] = field(default_factory=dict)
    """By request id; a fault is removed when it happens."""
    requests: list[pb.GenerateRequest] = field(default_factory=list)
    """The requests it got, oldest first."""
    link: Link = field(default_factory=Link)
    guesses: int = 0
    """Most tokens that each step guesses ahead, where there is anything to guess."""
    right_guesses: int = 0
    """In answers that it gave whole."""
    _server: grpc.aio.Server | None = None
    _model: OpenedModel = field(default_factory=lambda: opened_model(SimulatedSettings.model_validate({})))

    @property
    def address(self) -> str:
        """host:port; stays the same after a restart."""
        return self.link.address

    async def start(self) -> None:
        """Starts answering."""
        self._server = grpc.aio.server(interceptors=[RpcInterceptor(())])
        methods = {
            "Generate": grpc.unary_stream_rpc_method_handler(self._generate, pb.GenerateRequest.FromString),
            "GenerateMany": grpc.stream_stream_rpc_method_handler(self._generate_many),
            "WatchHealth": grpc.unary_stream_rpc_method_handler(
                self._watch_health, pb.WatchHealthRequest.FromString, pb.WatchHealthResponse.SerializeToString
            ),
        }
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        await self.link.start(port)

    async def stop(self) -> None:
        """Cuts every connection and stops answering."""
        await self.link.stop()
        if self._server is not None:
            await self._server.stop(None)

    async def _watch_health(
        self, request: pb.WatchHealthRequest, context: RpcContext
    ) -> AsyncIterator[pb.WatchHealthResponse]:
        models = [pb.ModelStatus(name=self._model.name, state=pb.ENDPOINT_STATE_READY, context_length=CONTEXT_LENGTH)]
        device = pb.Device(kind=pb.DEVICE_KIND_CPU)
        yield pb.WatchHealthResponse(
            report=pb.HealthReport(state=pb.ENDPOINT_STATE_READY, device=device, models=models)
        )
        await asyncio.Event().wait()

    async def _generate(self, request: pb.GenerateRequest, context: RpcContext) -> None:
        self.requests.append(request)
        request_id = dict(context.invocation_metadata()).get(REQUEST_ID_KEY, "")
        fault = self.faults.get(request_id)
        sent = _events_before(request) - 1  # a slow machine may have moved the stream before its fault
        async for event in self._events(request):
            await context.write(event.SerializeToString())
            sent += max(1, len(event.delta.token_ids))
            if fault is not None and sent >= fault.events:
                del self.faults[request_id]
                await self._fail(fault.kind, context)
                return

    async def _generate_many(self, _requests: object, context: RpcContext) -> None:
        await FrameStream(context, lambda _call: self._generate).run()

    async def _fail(self, kind: FaultKind, context: RpcContext) -> None:
        match kind:
            case FaultKind.CRASH:
                raise Unavailable("the engine crashed", reason="ENGINE_CRASHED")
            case FaultKind.INTERNAL:
                raise Internal("a fault of the worker")
            case FaultKind.SILENCE:
                await asyncio.Event().wait()
            case FaultKind.MALFORMED:
                await context.write(b"\xff\xff\xff")
                await asyncio.Event().wait()

    async def _events(self, request: pb.GenerateRequest) -> AsyncIterator[pb.GenerateResponse]:
        """The events that a worker would answer with."""
        clock = VirtualClock()
        options = SimulatedOptions(
            vocab_size=VOCAB_SIZE, context_length=CONTEXT_LENGTH, num_blocks=64, checks_drafts=self.guesses > 0
        )
        runner = SimulatedRunner(options, clock=clock, sleep=clock.sleep)
        speculation = SpeculationOptions(mode="always" if self.guesses else "off", max_tokens=max(1, self.guesses))
        config = EngineConfig(speculation=speculation)
        engine = Engine(runner, self._model.tokenizer, frozenset({END_OF_TEXT_ID}), config, clock)
        generation = await to_generation(request, request_id="r", model=self._model, info=runner.info)
        engine.submit(generation)
        prompt_tokens = len(generation.prompt_token_ids)
        yield pb.GenerateResponse(
            started=pb.Started(
                model=self._model.name, device=pb.DEVICE_KIND_CPU, prompt_tokens=prompt_tokens, seed=generation.seed
            )
        )
        while engine.has_work:
            for output in engine.step():
                if not isinstance(output, PromptLogprobs):
                    yield _to_event(output)
        self.right_guesses += engine.load().accepted_tokens


def _events_before(request: pb.GenerateRequest) -> int:
    """The events that a continued stream has already given: one for each token, and one for the end of a choice."""
    return sum(len(part.token_ids) + part.finished for part in request.generated)


def _to_event(output: Delta | Finished | Failed) -> pb.GenerateResponse:
    match output:
        case Delta():
            logprobs = map(_logprob, output.logprobs)
            delta = pb.Delta(choice=output.choice, text=output.text, token_ids=output.token_ids, logprobs=logprobs)
            return pb.GenerateResponse(delta=delta)
        case Finished():
            usage = pb.Usage(
                prompt_tokens=output.prompt_tokens,
                completion_tokens=output.completion_tokens,
                cached_tokens=output.cached_tokens,
            )
            reason = _REASONS[output.finish_reason]
            finished = pb.Finished(choice=output.choice, finish_reason=reason, stop=output.stop, usage=usage)
            return pb.GenerateResponse(finished=finished)
        case Failed():
            raise output.error


def _logprob(entry: TokenLogprob) -> pb.TokenLogprob:
    top = map(_logprob, entry.top)
    return pb.TokenLogprob(token_id=entry.token_id, logprob=entry.logprob, token=entry.token, top=top)
