"""The Open Inference Protocol over REST, as Envoy hands it over: JSON, binary tensors behind it, compressed bodies."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody

from infermesh.kserve.v1 import kserve_pb2 as pb
from infermesh.kserve.v1 import kserve_pb2_grpc as pb_grpc
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_router.testing.tensors import TensorWorker
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument, ModelNotFound, PermissionDenied
from infermesh_runtime.rpc.status import from_rpc_error

pytestmark = pytest.mark.asyncio(loop_scope="module")
module_fixture = pytest_asyncio.fixture(scope="module", loop_scope="module")
HEADER = "inference-header-content-length"
ENCODING = "x-infermesh-body-encoding"
X = np.arange(4, dtype=np.float32).reshape(2, 2)


@module_fixture
async def worker() -> AsyncIterator[TensorWorker]:
    worker = TensorWorker()
    await worker.start()
    yield worker
    await worker.stop()


@module_fixture
async def router(worker: TensorWorker) -> AsyncIterator[RunningRouter]:
    async with running_router(worker.address) as router:
        yield router


async def send(router: RunningRouter, method: str, request: Any, *metadata: tuple[str, str]) -> tuple[HttpBody, Any]:
    """Calls a method that has one answer: that, and its headers. Raises the status's InfermeshError."""
    call = getattr(pb_grpc.KServeServiceStub(router.channel), method)(request, metadata=metadata)
    try:
        return await call, dict(await call.initial_metadata())
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def infer(
    router: RunningRouter,
    document: Any,
    tail: bytes = b"",
    *,
    pack: Any = None,
    encoding: str = "",
    model: str = "echo",
) -> tuple[Any, bytes, Any]:
    """The JSON of the answer, what is behind it, and its headers."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    metadata = [(HEADER, str(len(text)))] if tail else []
    body = text + tail
    if encoding:
        body, metadata = pack(body), [*metadata, (ENCODING, encoding)]
    request = pb.ModelBody(model=model, content=HttpBody(data=body))
    answer, headers = await send(router, "Infer", request, *metadata)
    size = int(headers.get(HEADER, len(answer.data)))
    return json.loads(answer.data[:size]), answer.data[size:], headers


def tensor(name: str = "x", datatype: str = "FP32", shape: Any = (2, 2), **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), **more}


@pytest.mark.parametrize("data", [[0, 1.0, 2, 3], [[0, 1], [2, 3]]])
async def test_json_comes_back_as_json(router: RunningRouter, data: Any) -> None:
    answer, rest, headers = await infer(router, {"id": "r1", "inputs": [tensor(data=data)]})
    assert answer == {
        "model_name": "echo",
        "model_version": "1",
        "id": "r1",
        "outputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [0.0, 1.0, 2.0, 3.0]}],
    }
    assert (rest, HEADER in headers) == (b"", False)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", [True, False]),
        ("INT8", [-128, 127]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT8", [0, 255]),
        ("UINT64", [1, 2**64 - 1]),
        ("FP16", [0.5, 65504.0]),
        ("FP32", [0.1, -3.5]),
        ("FP64", [0.1, 1e300]),
        ("BYTES", ["", "grüß"]),
    ],
)
async def test_every_type_that_json_has_comes_back_equal(router: RunningRouter, datatype: str, values: Any) -> None:
    answer, _, _ = await infer(router, {"inputs": [tensor(datatype=datatype, shape=[2], data=values)]})
    assert answer["outputs"][0]["data"] == values


async def test_nan_and_infinities_are_written_as_triton_writes_them(router: RunningRouter) -> None:
    text = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[3],"data":[NaN,Infinity,-Infinity]}]}'
    request = pb.ModelBody(model="echo", content=HttpBody(data=text))
    answer, _ = await send(router, "Infer", request)
    assert b'"data":[NaN,Infinity,-Infinity]' in answer.data


async def test_binary_tensors_stand_behind_the_json(router: RunningRouter) -> None:
    inputs = [
        tensor("a", parameters={"binary_data_size": 16}),
        tensor("b", "INT64", [1], data=[7]),
        tensor("c", "BF16", [2], parameters={"binary_data_size": 4}),
    ]
    tail = X.tobytes() + b"\x80\x3f\x00\x40"
    outputs = [{"name": name, "parameters": {"binary_data": name != "b"}} for name in "abc"]
    answer, rest, headers = await infer(router, {"inputs": inputs, "outputs": outputs}, tail)
    assert rest == tail
    assert [each.get("parameters") for each in answer["outputs"]] == [
        {"binary_data_size": 16},
        None,
        {"binary_data_size": 4},
    ]
    assert answer["outputs"][1]["data"] == [7]
    assert int(headers[HEADER]) > 0


async def test_a_request_may_ask_for_binary_outputs_as_a_whole(router: RunningRouter) -> None:
    body = {"parameters": {"binary_data_output": True}, "inputs": [tensor(data=[1, 2, 3, 4])]}
    answer, rest, _ = await infer(router, body)
    assert np.frombuffer(rest, np.float32).tolist() == [1, 2, 3, 4]
    assert "data" not in answer["outputs"][0]
    body["outputs"] = [{"name": "x", "parameters": {"binary_data": False}}]
    answer, rest, _ = await infer(router, body)
    assert (answer["outputs"][0]["data"], rest) == ([1.0, 2.0, 3.0, 4.0], b"")


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("rows", [2, 200_000])
async def test_compressed_bodies_are_unpacked(router: RunningRouter, encoding: str, pack: Any, rows: int) -> None:
    data = np.random.default_rng(1).standard_normal((rows, 2), np.float32)
    document = {
        "parameters": {"binary_data_output": True},
        "inputs": [tensor(shape=[rows, 2], parameters={"binary_data_size": data.nbytes})],
    }
    _, rest, _ = await infer(router, document, data.tobytes(), pack=pack, encoding=encoding)
    assert rest == data.tobytes()


async def test_large_json_is_read_and_written_elsewhere_and_equal(router: RunningRouter) -> None:
    data = np.random.default_rng(2).standard_normal((50_000,), np.float32)
    answer, _, _ = await infer(router, {"inputs": [tensor(shape=[50_000], data=data.astype(float).tolist())]})
    assert np.array_equal(np.array(answer["outputs"][0]["data"], np.float32), data)


def body(**fields: Any) -> dict[str, Any]:
    return {"inputs": [tensor(data=[1, 2, 3, 4])]} | fields


def with_input(**fields: Any) -> dict[str, Any]:
    return {"inputs": [tensor(**{"data": [1, 2, 3, 4]} | fields)]}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (body(inputs=[]), "no inputs"),
        (body(inputs={}), "'inputs' must be an array"),
        (body(id=3), "'id' must be a text"),
        (body(parameters={"sequence_id": 1}), "'sequence_id'"),
        (body(parameters={"x": {}}), "'x'"),
        (body(outputs=[{"name": "x", "parameters": {"classification": 3}}]), "'classification'"),
        (with_input(data=[1, 2, 3]), "'x'.*needs 4 elements; it has 3"),
        (with_input(data=[[1, 2], 3]), "'x' mixes"),
        (with_input(data=[1, 2, "3", 4]), "'x' is FP32 and must not have the element \"3\""),
        (with_input(data=[1, 2, None, 4]), "element null"),
        (with_input(datatype="INT32", data=[1, 2, 3.5, 4]), "element 3.5"),
        (with_input(datatype="INT8", data=[1, 2, 3, 400]), "from -128 to 127"),
        (with_input(datatype="UINT8", data=[1, 2, 3, -1]), "from 0 to 255"),
        (with_input(datatype="BOOL", data=[1, 0, 1, 1]), "is BOOL"),
        (with_input(datatype="BF16"), "BF16.*binary"),
        (with_input(datatype="FLOAT"), "'FLOAT'"),
        (with_input(shape="2"), "'shape'"),
        (with_input(shape=[2, -2]), "negative"),
        (with_input(shape=[2**70]), "too large"),
        (with_input(shape=[2**40, 2**40]), "too large"),
        (with_input(parameters={"binary_data_size": 16}), "needs one of 'data'"),
        (with_input(extra=1), "'extra'"),
        ({"inputs": [tensor()]}, "needs one of 'data'"),
        ({"inputs": [{"data": [1]}]}, "'name'"),
        ({"inputs": [tensor(parameters={"binary_data_size": 16})]}, "only 0 bytes are left"),
        ({"inputs": [tensor(data=[1, 2, 3, 4])] * 2}, "'x' is given twice"),
    ],
)
async def test_bad_bodies_are_refused_by_name(router: RunningRouter, document: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        await infer(router, document)


async def test_unknown_fields_are_named_or_refused(router: RunningRouter, worker: TensorWorker) -> None:
    document = body(model_name="echo", model_version="1", colour="red", **{"grün ": 1})
    _, _, headers = await infer(router, document)
    assert headers["x-infermesh-ignored-fields"] == "colour,gr%C3%BCn%20"
    async with running_router(worker.address, unknown_fields="reject") as strict:
        with pytest.raises(InvalidArgument, match="'colour' is not known"):
            await infer(strict, document)


async def test_bytes_behind_the_json_must_be_used_up(router: RunningRouter) -> None:
    binary = {"inputs": [tensor(parameters={"binary_data_size": 16})]}
    with pytest.raises(InvalidArgument, match="17 bytes behind the JSON, and the inputs take 16"):
        await infer(router, binary, bytes(17))
    with pytest.raises(InvalidArgument, match="only 15 bytes are left"):
        await infer(router, binary, bytes(15))
    binary["inputs"][0]["parameters"]["binary_data_size"] = 12
    with pytest.raises(InvalidArgument, match="needs 16 bytes; it has 12"):
        await infer(router, binary, bytes(12))
    for told in ("-1", "1e3", "9" * 30, "1000"):
        with pytest.raises(InvalidArgument, match=HEADER):
            await send(router, "Infer", pb.ModelBody(model="echo", content=HttpBody(data=b"{}")), (HEADER, told))


async def test_elements_that_json_cannot_hold_are_refused_by_name(router: RunningRouter) -> None:
    inputs = [tensor("t", "BYTES", [1], parameters={"binary_data_size": 5})]
    with pytest.raises(InvalidArgument, match="'t' has bytes that are not UTF-8"):
        await infer(router, {"inputs": inputs}, b"\x01\x00\x00\x00\xff")
    inputs = [tensor("h", "BF16", [1], parameters={"binary_data_size": 2})]
    with pytest.raises(InvalidArgument, match="'h' is BF16"):
        await infer(router, {"inputs": inputs}, b"\x80\x3f")


async def test_the_server_and_its_models_are_described(router: RunningRouter) -> None:
    async def get(method: str, request: Any) -> Any:
        answer, _ = await send(router, method, request)
        return json.loads(answer.data) if answer.data else None

    assert await get("GetLive", pb.GetLiveRequest()) == {"live": True}
    assert await get("GetReady", pb.GetReadyRequest()) == {"ready": True}
    assert (await get("GetServer", pb.GetServerRequest()))["name"] == "infermesh"
    assert await get("GetModel", pb.ModelRequest(model="team/echo", version="1")) == {
        "name": "team/echo",
        "versions": ["1"],
        "platform": "infermesh router",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    }
    config = await get("GetModelConfig", pb.ModelRequest(model="echo"))
    assert config["input"][0] == {"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2], "optional": False}
    await infer(router, body())
    stats = await get("GetStatistics", pb.ModelRequest())
    counts = {each["name"]: each["inference_count"] for each in stats["model_stats"]}
    assert counts["echo"] > 0
    index = await get("ListRepository", pb.RepositoryBody(content=HttpBody(data=b'{"ready":true}')))
    assert index[0] == {"name": "echo", "version": "1", "state": "READY", "reason": ""}
    assert await get("GetModelReady", pb.ModelRequest(model="echo")) == {"name": "echo", "ready": True}
    for version in ("2", "x"):
        with pytest.raises(ModelNotFound):
            await get("GetModelReady", pb.ModelRequest(model="echo", version=version))
    with pytest.raises(ModelNotFound):
        await infer(router, body(), model="nothing")
    with pytest.raises(PermissionDenied, match="Operators"):
        await get("LoadModel", pb.ModelBody(model="echo"))


async def test_a_router_without_endpoints_is_not_ready() -> None:
    async with running_router() as router:
        with pytest.raises(FailedPrecondition, match="No endpoint is ready"):
            await send(router, "GetReady", pb.GetReadyRequest())


async def test_a_model_name_that_is_not_utf8_is_refused(router: RunningRouter) -> None:
    for method in ("Infer", "Generate"):
        call = router.channel.unary_stream(f"/infermesh.kserve.v1.KServeService/{method}")(b"\x0a\x01\xff")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "not a valid protobuf message" in (refused.value.details() or "")
