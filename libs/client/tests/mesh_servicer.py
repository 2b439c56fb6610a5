"""What answers the client in tests: a real gRPC servicer of a mesh that tests script."""

import re
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_status import rpc_status

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh_runtime.errors import DeviceNotAvailable, InfermeshError, NotFound, ResourceExhausted
from infermesh_runtime.rpc.status import to_status


@dataclass
class MeshServicer(
    inference_pb2_grpc.InferenceServiceServicer,
    admin_pb2_grpc.AdminServiceServicer,
    admin_pb2_grpc.EndpointServiceServicer,
):
    """Answers with words that name the question; remembers requests, and which calls were cancelled."""

    served: list[str] = field(default_factory=lambda: ["tiny"])
    words: tuple[str, ...] = ("Hello", ", ", "world", "!")
    answers: list[str] = field(default_factory=list)
    """What to answer instead of the words, one each, the last one for good. Each word is a token of its own."""
    state: inference_pb2.EndpointState = inference_pb2.ENDPOINT_STATE_READY
    requests: list[inference_pb2.GenerateRequest] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """The `authorization` of each request; "" if it had none."""
    orders: list[Any] = field(default_factory=list)
    """Requests to drain, resume, load and unload."""
    queues: list[admin_pb2.ModelQueue] = field(default_factory=list)
    pinned: bool = False
    available: list[inference_pb2.AvailableModel] = field(default_factory=list)
    watched: threading.Event = field(default_factory=threading.Event)
    """Set once somebody follows its health and has the first report."""
    changed: threading.Event = field(default_factory=threading.Event)
    """Sends those who follow its health the next report."""
    may_answer: threading.Event | None = None
    """Holds back every answer, and every load, until it is set."""
    load_left_s: float | None = None
    """The estimate for the loads of all models, which are then half done."""
    endless: bool = False
    silent_device: str = ""
    """The device that answers nothing until the caller has gone."""
    style: inference_pb2.AnswerStyle = field(default_factory=inference_pb2.AnswerStyle)
    finish_reason: inference_pb2.FinishReason = inference_pb2.FINISH_REASON_STOP
    failovers: list[inference_pb2.Failover] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def Generate(
        self, request: inference_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[inference_pb2.GenerateResponse]:
        self.requests.append(request)
        self.keys.append(dict(context.invocation_metadata()).get("authorization", ""))
        if request.device == "gpu":
            _abort(context, DeviceNotAvailable("there is no gpu; available: cpu", metadata={"devices": "cpu"}))
        if self.endless or request.device == self.silent_device != "":
            context.add_callback(self.cancelled.set)
        if request.device == self.silent_device != "":
            self.cancelled.wait(30)
        if self.may_answer is not None:
            self.may_answer.wait(30)
        cpu = inference_pb2.DEVICE_KIND_CPU
        started = inference_pb2.Started(model="tiny", endpoint="10.0.0.1:7", device=cpu, reason="equal")
        started.answer_style.CopyFrom(self.style)
        yield inference_pb2.GenerateResponse(started=started)
        for token, word in self._next_words():
            yield inference_pb2.GenerateResponse(delta=inference_pb2.Delta(text=word, token_ids=[token]))
        if self.endless:
            self.cancelled.wait(30)
            return
        finished = inference_pb2.Finished(finish_reason=self.finish_reason, failovers=self.failovers)
        yield inference_pb2.GenerateResponse(finished=finished)

    def _next_words(self) -> Iterable[tuple[int, str]]:
        if not self.answers:
            return enumerate(self.words)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(zlib.crc32(word.encode()), word) for word in re.findall(r"\S+\s*", answer)]

    def Health(
        self, request: inference_pb2.HealthRequest, context: grpc.ServicerContext
    ) -> inference_pb2.HealthResponse:
        return inference_pb2.HealthResponse(report=self._report())

    def WatchHealth(
        self, request: inference_pb2.WatchHealthRequest, context: grpc.ServicerContext
    ) -> Iterator[inference_pb2.WatchHealthResponse]:
        ended = threading.Event()

        def end() -> None:
            ended.set()
            self.changed.set()

        context.add_callback(end)
        while not ended.is_set():
            yield inference_pb2.WatchHealthResponse(report=self._report())
            self.watched.set()
            self.changed.wait(30)
            self.changed.clear()

    def ListEndpoints(
        self, request: admin_pb2.ListEndpointsRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ListEndpointsResponse:
        return admin_pb2.ListEndpointsResponse(endpoints=[self._endpoint()], queues=self.queues)

    def WatchEndpoints(
        self, request: admin_pb2.WatchEndpointsRequest, context: grpc.ServicerContext
    ) -> Iterator[admin_pb2.WatchEndpointsResponse]:
        yield admin_pb2.WatchEndpointsResponse(endpoints=[self._endpoint()], queues=self.queues)

    def DrainEndpoint(
        self, request: admin_pb2.DrainEndpointRequest, context: grpc.ServicerContext
    ) -> admin_pb2.DrainEndpointResponse:
        self.orders.append(request)
        self._check(request.address, context)
        return admin_pb2.DrainEndpointResponse(moved=2 if request.HasField("move_after_s") else 0)

    def ResumeEndpoint(
        self, request: admin_pb2.ResumeEndpointRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ResumeEndpointResponse:
        self.orders.append(request)
        self._check(request.address, context)
        return admin_pb2.ResumeEndpointResponse()

    def LoadModel(
        self, request: admin_pb2.LoadModelRequest, context: grpc.ServicerContext
    ) -> admin_pb2.LoadModelResponse:
        self.orders.append(request)
        if request.model == "huge":
            _abort(context, ResourceExhausted("huge needs 9 GB, 3 GB are free", reason="MODEL_DOES_NOT_FIT"))
        if self.may_answer is not None:
            self.may_answer.wait(30)
        return admin_pb2.LoadModelResponse(unloaded=["other"])

    def UnloadModel(
        self, request: admin_pb2.UnloadModelRequest, context: grpc.ServicerContext
    ) -> admin_pb2.UnloadModelResponse:
        self.orders.append(request)
        return admin_pb2.UnloadModelResponse()

    def _check(self, address: str, context: grpc.ServicerContext) -> None:
        if address != "10.0.0.1:7":
            _abort(context, NotFound(f"There is no endpoint '{address}'; available: 10.0.0.1:7."))

    def _endpoint(self) -> admin_pb2.Endpoint:
        return admin_pb2.Endpoint(
            address="10.0.0.1:7",
            connected=True,
            report=self._report(),
            in_flight=1,
            breaker=admin_pb2.BREAKER_STATE_HALF_OPEN,
            choices={"least_loaded": 12, "session": 3},
            failovers=4,
            queued_ms=56.4,
            overhead_ms=0.34,
            source="registered",
        )

    def _report(self) -> inference_pb2.HealthReport:
        models = [
            inference_pb2.ModelStatus(name=name, state=self.state, context_length=512, pinned=self.pinned)
            for name in self.served
        ]
        if self.load_left_s is not None:
            for model in models:
                model.load_fraction, model.load_left_s = 0.5, self.load_left_s
        device = inference_pb2.Device(kind=inference_pb2.DEVICE_KIND_CPU, name="Test CPU")
        load = inference_pb2.Load(
            running=2, waiting=1, kv_cache_usage=0.5, decode_tokens_per_s=123.0, cached_tokens=12345
        )
        return inference_pb2.HealthReport(
            state=self.state, device=device, models=models, load=load, available=self.available
        )


def _abort(context: grpc.ServicerContext, error: InfermeshError) -> None:
    context.abort_with_status(rpc_status.to_status(to_status(error)))
