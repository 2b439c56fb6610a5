"""The native services work through Envoy's gRPC port with plain grpcio stubs."""

from collections.abc import Iterable
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh.tensor.v1 import tensor_pb2
from tests.e2e.mesh import Mesh

M = TypeVar("M", bound=Message)
pytestmark = pytest.mark.timeout(60)

MODEL = "smollm2-135m-instruct"
GREEDY = pb.SamplingParams(temperature=0)
INVALID = grpc.StatusCode.INVALID_ARGUMENT
EIGHT = pb.StopConditions(max_tokens=8, ignore_eos=True)


@pytest.fixture
def inference(channel: grpc.Channel) -> InferenceServiceStub:
    return InferenceServiceStub(channel)


def request(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"model": MODEL, "sampling": GREEDY, "stop": EIGHT, **fields})


def tensor(ids: list[int], dtype: type[np.integer[Any]] = np.int64) -> tensor_pb2.Tensor:
    kind = tensor_pb2.DATA_TYPE_INT32 if dtype is np.int32 else tensor_pb2.DATA_TYPE_INT64
    return tensor_pb2.Tensor(dtype=kind, shape=[len(ids)], data=np.array(ids, dtype).tobytes())


def deltas(events: Iterable[pb.GenerateResponse]) -> list[pb.Delta]:
    return [event.delta for event in events if event.HasField("delta")]


def text_of(events: Iterable[pb.GenerateResponse]) -> str:
    return "".join(delta.text for delta in deltas(events))


def ids_of(events: Iterable[pb.GenerateResponse]) -> list[int]:
    return [i for delta in deltas(events) for i in delta.token_ids]


def test_generate_from_text(inference: InferenceServiceStub, mesh: Mesh) -> None:
    events = list(inference.Generate(request(text="One, two, three,")))
    started, finished = events[0].started, events[-1].finished
    assert (started.model, started.endpoint, started.device) == (MODEL, mesh.workers[0].address, pb.DEVICE_KIND_CPU)
    assert started.reason
    assert started.prompt_tokens == finished.usage.prompt_tokens > 0
    assert finished.finish_reason == pb.FINISH_REASON_LENGTH
    assert len(ids_of(events)) == finished.usage.completion_tokens == 8
    assert text_of(events)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_generate_from_token_ids(inference: InferenceServiceStub, dtype: type[np.integer[Any]]) -> None:
    ids = ids_of(inference.Generate(request(text="One, two, three,")))
    events = list(inference.Generate(request(token_ids=tensor(ids, dtype))))
    assert events[0].started.prompt_tokens == len(ids)
    assert len(ids_of(events)) == 8


def test_generate_from_chat(inference: InferenceServiceStub) -> None:
    chat = pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="Say hello.")])
    assert text_of(inference.Generate(request(chat=chat)))


def test_logprobs_and_choices(inference: InferenceServiceStub) -> None:
    asked = request(text="The sky is", n=2, seed=5, sampling=pb.SamplingParams(), logprobs=pb.LogprobsOptions(top=3))
    events = list(inference.Generate(asked))
    assert {event.finished.choice for event in events if event.HasField("finished")} == {0, 1}
    for delta in deltas(events):
        assert len(delta.logprobs) == len(delta.token_ids)
        assert all(len(logprob.top) == 3 for logprob in delta.logprobs)
    assert (
        sum(e.finished.usage.prompt_tokens for e in events if e.HasField("finished")) == events[0].started.prompt_tokens
    )


def test_continuation_resumes_where_it_stopped(inference: InferenceServiceStub) -> None:
    whole = ids_of(inference.Generate(request(text="Once upon a time")))
    for cut in (1, 4, 7):
        done = [pb.Continuation(choice=0, token_ids=whole[:cut])]
        events = list(inference.Generate(request(text="Once upon a time", generated=done)))
        assert ids_of(events) == whole[cut:]
        assert events[-1].finished.usage.completion_tokens == 8


def test_health(inference: InferenceServiceStub) -> None:
    report = inference.Health(pb.HealthRequest()).report
    assert report.state == pb.ENDPOINT_STATE_READY
    assert 0 < report.load.kv_cache_tokens < 8192, "this mesh has a small KV cache"
    assert [(model.name, model.context_length) for model in report.models] == [(MODEL, report.load.kv_cache_tokens)]


def test_watch_health_follows_the_load(inference: InferenceServiceStub) -> None:
    watch = inference.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1))
    assert next(watch).report.state == pb.ENDPOINT_STATE_READY
    stop = pb.StopConditions(max_tokens=400, ignore_eos=True)
    call = inference.Generate(request(text="Once", stop=stop))
    next(call)
    assert any(update.report.load.running == 1 for update in watch)
    call.cancel()
    assert any(update.report.load.running == 0 for update in watch)
    watch.cancel()


def test_list_endpoints(admin: grpc.Channel, mesh: Mesh) -> None:
    (endpoint,) = admin_pb2_grpc.AdminServiceStub(admin).ListEndpoints(admin_pb2.ListEndpointsRequest()).endpoints
    assert (endpoint.address, endpoint.connected) == (mesh.workers[0].address, True)
    assert endpoint.report.device.kind == pb.DEVICE_KIND_CPU
    assert endpoint.report.runtime.startswith("openvino")


def test_models_are_loaded_and_unloaded_through_the_router(admin: grpc.Channel) -> None:
    endpoints = admin_pb2_grpc.EndpointServiceStub(admin)
    assert not endpoints.LoadModel(admin_pb2.LoadModelRequest(model=MODEL)).unloaded
    with pytest.raises(grpc.RpcError) as caught:
        endpoints.UnloadModel(admin_pb2.UnloadModelRequest(model="nosuch"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert MODEL in caught.value.details()


def test_standard_health_service(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", "infermesh.inference.v1.InferenceService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert "infermesh.inference.v1.InferenceService" in services
    assert "infermesh.admin.v1.AdminService" not in services
    found = database.FindFileContainingSymbol("infermesh.inference.v1.InferenceService")
    assert found.package == "infermesh.inference.v1"


def failure(call: Iterable[pb.GenerateResponse]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return caught.value


def detail(error: grpc.RpcError, kind: type[M]) -> M:
    """The detail of this kind that an error carries."""
    for packed in rpc_status.from_call(error).details:
        message = kind()
        if packed.Unpack(message):
            return message
    raise AssertionError(f"no {kind.__name__} in {error}")


@pytest.mark.parametrize(
    ("fields", "code", "reason", "field"),
    [
        ({"model": "nobody", "text": "x"}, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", None),
        ({}, INVALID, None, "prompt"),
        ({"text": "x", "sampling": pb.SamplingParams(temperature=-1)}, INVALID, None, "sampling.temperature"),
        ({"text": "x", "sampling": pb.SamplingParams(top_p=2)}, INVALID, None, "sampling.top_p"),
        ({"text": "x", "stop": pb.StopConditions(max_tokens=0)}, INVALID, None, "stop.max_tokens"),
        ({"text": "x", "n": 0}, INVALID, None, "n"),
        ({"text": "x", "logprobs": pb.LogprobsOptions(top=21)}, INVALID, None, "logprobs.top"),
        ({"token_ids": tensor([1, 10**6])}, INVALID, None, "token_ids"),
        ({"text": "x", "format": pb.OutputFormat(json_schema="{")}, INVALID, None, "format.json_schema"),
        ({"text": "x", "device": "cuda"}, grpc.StatusCode.FAILED_PRECONDITION, "DEVICE_NOT_AVAILABLE", None),
    ],
)  # fmt: skip
def test_bad_requests(
    inference: InferenceServiceStub,
    fields: dict[str, Any],
    code: grpc.StatusCode,
    reason: str | None,
    field: str | None,
) -> None:
    error = failure(inference.Generate(request(**fields)))
    assert error.code() == code
    if reason:
        info = detail(error, error_details_pb2.ErrorInfo)
        assert (info.domain, info.reason) == ("infermesh", reason)
    if field:
        violations = detail(error, error_details_pb2.BadRequest).field_violations
        assert violations[0].field == field


def test_deadline(inference: InferenceServiceStub) -> None:
    stop = pb.StopConditions(max_tokens=4000, ignore_eos=True)
    error = failure(inference.Generate(request(text="Once", stop=stop), timeout=0.3))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
