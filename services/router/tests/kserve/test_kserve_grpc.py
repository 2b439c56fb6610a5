"""The Open Inference Protocol over gRPC, against a router and a worker that takes tensors."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_router.testing.tensors import TensorWorker, call, raw_request
from infermesh_runtime.errors import InfermeshError, InvalidArgument, ModelNotFound, PermissionDenied

pytestmark = pytest.mark.asyncio(loop_scope="module")
X = np.arange(4, dtype=np.float32).reshape(2, 2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker() -> AsyncIterator[TensorWorker]:
    worker = TensorWorker()
    await worker.start()
    yield worker
    await worker.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(worker: TensorWorker) -> AsyncIterator[RunningRouter]:
    async with running_router(worker.address) as router:
        yield router


async def infer(router: RunningRouter, request: oip.ModelInferRequest) -> Any:
    return await call(router, "ModelInfer", request)


async def test_raw_contents_come_back_raw_under_their_names(router: RunningRouter, worker: TensorWorker) -> None:
    arrays: dict[str, Any] = {
        "f": X,
        "h": np.array([[1.5, -2]], np.float16),
        "i": np.array([-1, 2**62], np.int64),
        "b": np.array([True, False]),
        "none": np.zeros((0, 3), np.float64),
    }
    request = raw_request(**arrays)
    request.id = "r7"
    answer = await infer(router, request)
    assert (answer.model_name, answer.model_version, answer.id) == ("echo", "1", "r7")
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        assert raw == arrays[output.name].tobytes()
        assert tuple(output.shape) == arrays[output.name].shape
        assert not output.HasField("contents")
    assert {output.name: output.datatype for output in answer.outputs} == {
        "f": "FP32",
        "h": "FP16",
        "i": "INT64",
        "b": "BOOL",
        "none": "FP64",
    }
    assert worker.inferred[-1].inputs[0].name == "f"


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-5, 6]),
        ("INT32", "int_contents", [-(2**31), 7]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT32", "uint_contents", [0, 2**32 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, float("inf")]),
        ("FP64", "fp64_contents", [1e300, -0.25]),
        ("BYTES", "bytes_contents", [b"", b"\xff\x00 text"]),
    ],
)
async def test_typed_contents_come_back_typed(
    router: RunningRouter, datatype: str, field: str, values: list[Any]
) -> None:
    request = oip.ModelInferRequest(model_name="echo")
    contents = oip.InferTensorContents(**{field: values})
    request.inputs.add(name="x", datatype=datatype, shape=[2, 1], contents=contents)
    answer = await infer(router, request)
    assert answer.outputs[0].datatype == datatype
    assert list(getattr(answer.outputs[0].contents, field)) == values
    assert not answer.raw_output_contents


async def test_large_typed_contents_are_converted_elsewhere_and_equal(router: RunningRouter) -> None:
    values = np.random.default_rng(0).standard_normal(100_000, np.float32)
    request = oip.ModelInferRequest(model_name="echo")
    request.inputs.add(
        name="x", datatype="FP32", shape=[100_000], contents=oip.InferTensorContents(fp32_contents=values.tolist())
    )
    answer = await infer(router, request)
    assert np.array_equal(np.array(answer.outputs[0].contents.fp32_contents, np.float32), values)


async def test_bf16_is_raw_only_and_passes_through(router: RunningRouter) -> None:
    request = oip.ModelInferRequest(model_name="echo", raw_input_contents=[b"\x80\x3f\x00\x40"])
    request.inputs.add(name="x", datatype="BF16", shape=[2])
    answer = await infer(router, request)
    assert (answer.outputs[0].datatype, answer.raw_output_contents[0]) == ("BF16", b"\x80\x3f\x00\x40")


async def test_the_size_that_kserves_client_tells_changes_nothing(router: RunningRouter) -> None:
    request = raw_request(x=X)
    request.inputs[0].parameters["binary_data_size"].int64_param = X.nbytes
    assert (await infer(router, request)).raw_output_contents[0] == X.tobytes()


async def test_outputs_asked_for_come_in_that_order(router: RunningRouter, worker: TensorWorker) -> None:
    request = raw_request(a=X, b=X + 1, c=X + 2)
    for name in ("c", "a"):
        request.outputs.add(name=name)
    answer = await infer(router, request)
    assert [output.name for output in answer.outputs] == ["c", "a"]
    assert answer.raw_output_contents[0] == (X + 2).tobytes()
    assert list(worker.inferred[-1].outputs) == ["c", "a"]


async def test_a_call_that_an_endpoint_fails_is_retried(worker: TensorWorker) -> None:
    other = TensorWorker(failures=1)
    await other.start()
    try:
        async with running_router(other.address, retry_ratio=1.0) as router:
            assert (await infer(router, raw_request(x=X))).raw_output_contents[0] == X.tobytes()
        assert len(other.inferred) == 2
    finally:
        await other.stop()


async def test_parameters_say_how_a_request_is_carried(router: RunningRouter, worker: TensorWorker) -> None:
    request = raw_request(x=X)
    request.parameters["priority"].uint64_param = 7
    request.parameters["timeout"].int64_param = 5_000_000
    request.parameters["device"].string_param = "cpu"
    await infer(router, request)
    assert (worker.inferred[-1].device, worker.inferred[-1].priority) == ("cpu", -7)
    request.parameters["device"].string_param = "cuda"
    with pytest.raises(InfermeshError, match="cuda") as refused:
        await infer(router, request)
    assert refused.value.reason == "DEVICE_NOT_AVAILABLE"


def spoil(change: Any) -> oip.ModelInferRequest:
    request = raw_request(x=X)
    change(request)
    return request


def set_raw(request: oip.ModelInferRequest, data: bytes) -> None:
    request.raw_input_contents[0] = data


def make_bytes(request: oip.ModelInferRequest) -> None:
    request.inputs[0].datatype = "BYTES"
    set_shape(request, 5)


def set_shape(request: oip.ModelInferRequest, *shape: int) -> None:
    request.inputs[0].shape[:] = shape


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (spoil(lambda r: set_raw(r, bytes(15))), r"'x' is FP32 of shape \[2, 2\] and needs 16 bytes; it has 15"),
        (spoil(lambda r: set_raw(r, bytes(17))), "needs 16 bytes; it has 17"),
        (spoil(lambda r: set_shape(r, 2, -2)), "'x'.*negative"),
        (spoil(lambda r: set_shape(r, 2, 0)), "'x'.*needs 0 bytes; it has 16"),
        (spoil(lambda r: set_shape(r, 2**62, 2**62)), "'x'.*too large"),
        (spoil(lambda r: set_shape(r, *[1] * 65)), "'x' has 65 dimensions"),
        (spoil(lambda r: setattr(r.inputs[0], "datatype", "FP31")), "'x'.*'FP31'"),
        (spoil(make_bytes), "at least 20 bytes.*has 16"),
        (spoil(lambda r: setattr(r.inputs[0], "name", "")), "no name"),
        (spoil(lambda r: r.inputs.append(r.inputs[0])), "1 entries; the 2 inputs"),
        (
            spoil(lambda r: (r.inputs.append(r.inputs[0]), r.raw_input_contents.append(X.tobytes()))),
            "'x' is given twice",
        ),
        (spoil(lambda r: r.raw_input_contents.append(b"")), "2 entries; the 1 inputs"),
        (spoil(lambda r: r.ClearField("raw_input_contents")), "'x'.*needs 4 elements; it has 0"),
        (spoil(lambda r: r.ClearField("inputs")), "raw_input_contents"),
        (oip.ModelInferRequest(model_name="echo"), "no inputs"),
        (spoil(lambda r: r.inputs[0].contents.fp32_contents.append(1)), "'x'.*must not both"),
        (spoil(lambda r: r.outputs.add(name="nothing")), "nothing"),
        (spoil(lambda r: setattr(r.parameters["sequence_id"], "int64_param", 1)), "'sequence_id'"),
        (spoil(lambda r: setattr(r.parameters["sequence_start"], "bool_param", True)), "'sequence_start'"),
        (spoil(lambda r: setattr(r.parameters["temperature"], "double_param", 1.0)), "'temperature' has no meaning"),
        (spoil(lambda r: setattr(r.parameters["priority"], "int64_param", -1)), "'priority' must be a whole number"),
        (spoil(lambda r: setattr(r.inputs[0].parameters["classification"], "int64_param", 1)), "'classification'"),
    ],
)
async def test_bad_tensors_are_refused_by_name(
    router: RunningRouter, request_: oip.ModelInferRequest, words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        await infer(router, request_)


async def test_bytes_that_are_no_message_are_refused(router: RunningRouter) -> None:
    method = router.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    for raw in (b"\xff" * 9, b"\x0a\x05abc", b"\x3b", b"\x2a\x03\xff\xff\xff"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await method(raw)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_typed_integers_out_of_range_are_refused(router: RunningRouter) -> None:
    request = oip.ModelInferRequest(model_name="echo")
    request.inputs.add(name="x", datatype="INT8", shape=[1], contents=oip.InferTensorContents(int_contents=[128]))
    with pytest.raises(InvalidArgument, match="'x' is INT8, whose elements are from -128 to 127"):
        await infer(router, request)
    request.inputs[0].datatype = "FP32"
    with pytest.raises(InvalidArgument, match="fp32_contents, not in int_contents"):
        await infer(router, request)


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics", "ModelInfer"])
async def test_unknown_models_and_versions_are_not_found(router: RunningRouter, method: str) -> None:
    for model, version in (("nothing", ""), ("echo", "2")):
        if method == "ModelInfer":
            request: Any = raw_request(model, x=X)
            request.model_version = version
        else:
            request = getattr(oip, f"{method}Request")(name=model, version=version)
        with pytest.raises(ModelNotFound):
            await call(router, method, request)


async def test_the_server_and_its_models_are_described(router: RunningRouter) -> None:
    assert (await call(router, "ServerLive", oip.ServerLiveRequest())).live
    assert (await call(router, "ServerReady", oip.ServerReadyRequest())).ready
    server = await call(router, "ServerMetadata", oip.ServerMetadataRequest())
    assert server.name == "infermesh"
    assert "binary_tensor_data" in server.extensions
    for name, version, ready in (("echo", "1", True), ("echo", "2", False), ("nothing", "", False)):
        answer = await call(router, "ModelReady", oip.ModelReadyRequest(name=name, version=version))
        assert answer.ready is ready
    metadata = await call(router, "ModelMetadata", oip.ModelMetadataRequest(name="echo"))
    assert (list(metadata.versions), metadata.inputs[0].datatype) == (["1"], "FP32")
    assert list(metadata.inputs[0].shape) == [-1, 2]
    language = await call(router, "ModelMetadata", oip.ModelMetadataRequest(name="m"))
    assert [each.name for each in language.inputs] == [
        "text_input",
        "stream",
        "sampling_parameters",
        "exclude_input_in_output",
    ]
    config = (await call(router, "ModelConfig", oip.ModelConfigRequest(name="m"))).config
    assert config.input[0].data_type == oip.TYPE_STRING
    assert config.model_transaction_policy.decoupled
    index = await call(router, "RepositoryIndex", oip.RepositoryIndexRequest(ready=True))
    assert [(each.name, each.state) for each in index.models] == [
        ("echo", "READY"),
        ("m", "READY"),
        ("team/echo", "READY"),
    ]


async def test_requests_are_counted(router: RunningRouter) -> None:
    async def count() -> oip.ModelStatistics:
        answer: oip.ModelStatisticsResponse = await call(
            router, "ModelStatistics", oip.ModelStatisticsRequest(name="echo")
        )
        return answer.model_stats[0]

    await infer(router, raw_request(x=X))
    before = await count()
    await infer(router, raw_request(x=X))
    with pytest.raises(InvalidArgument):
        await infer(router, spoil(lambda r: r.outputs.add(name="nothing")))
    after = await count()
    assert after.inference_count == before.inference_count + 1
    assert after.inference_stats.fail.count == before.inference_stats.fail.count + 1
    assert after.inference_stats.success.ns > before.inference_stats.success.ns


async def test_only_operators_load_and_unload(router: RunningRouter) -> None:
    for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
        request = getattr(oip, f"{method}Request")(model_name="echo")
        with pytest.raises(PermissionDenied, match="Operators"):
            await call(router, method, request)
    with pytest.raises(ModelNotFound):  # at the address for operators it is carried out
        await call(router, "RepositoryModelUnload", oip.RepositoryModelUnloadRequest(model_name="nothing"), admin=True)
