"""The Open Inference Protocol through the real Envoy, router and worker; tests/clients has tritonclient itself."""

import gzip
import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh.open_inference.v2 import open_inference_pb2_grpc as oip_grpc
from tests.e2e.mesh import SIMULATED, Mesh, NewMesh

HEADER = "inference-header-content-length"
X = np.arange(8, dtype=np.float32).reshape(2, 4)
WAIT_S = 30


@pytest.fixture(scope="module")
def tensor_mesh(new_mesh: NewMesh) -> Mesh:
    """A worker with a model of tensors, which is loaded, and a language model, which is not."""
    settings = {"model": "tensors", "sim_tensor_models": "tensors", "sim_models": "chat:1000", "sim_itl_s": 0}
    made = new_mesh([(SIMULATED, settings)])
    made.start()
    made.wait_ready()
    return made


@pytest.fixture(scope="module")
def http(tensor_mesh: Mesh) -> Iterator[httpx.Client]:
    with tensor_mesh.http() as client:
        yield client


@pytest.fixture(scope="module")
def stub(tensor_mesh: Mesh) -> Iterator[oip_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(tensor_mesh.envoy.grpc) as channel:
        yield oip_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def operator(tensor_mesh: Mesh) -> Iterator[oip_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(tensor_mesh.admin) as channel:
        yield oip_grpc.GRPCInferenceServiceStub(channel)


def tensors(**changes: Any) -> dict[str, Any]:
    x = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": X.tolist()}
    s = {"name": "s", "datatype": "BYTES", "shape": [2], "data": ["ab", "cd"]}
    return {"inputs": [x | changes, s]}


def raw(x: np.ndarray[Any, Any] = X) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="tensors", id="r1")
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    request.inputs.add(name="s", datatype="BYTES", shape=[len(x)])
    request.raw_input_contents.extend([x.tobytes(), b"\x01\x00\x00\x00a" * len(x)])
    return request


def test_json_and_binary_over_rest(http: httpx.Client) -> None:
    answer = http.post("/v2/models/tensors/infer", json=tensors())
    outputs = {each["name"]: each for each in answer.raise_for_status().json()["outputs"]}
    assert outputs["y"]["data"] == (2 * X).ravel().tolist()
    assert outputs["t"]["data"] == ["ba", "dc"]
    body = tensors(parameters={"binary_data_size": X.nbytes})
    del body["inputs"][0]["data"]
    body["outputs"] = [{"name": "y", "parameters": {"binary_data": True}}]
    head = httpx.Request("POST", "http://x", json=body).content
    for packed in (False, True):
        content = head + X.tobytes()
        headers = {HEADER: str(len(head)), **({"content-encoding": "gzip"} if packed else {})}
        answer = http.post(
            "/v2/models/tensors/versions/1/infer",
            content=gzip.compress(content) if packed else content,
            headers=headers,
        ).raise_for_status()
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.content[int(answer.headers[HEADER]) :] == (2 * X).tobytes()


def test_raw_over_grpc(stub: oip_grpc.GRPCInferenceServiceStub) -> None:
    answer = stub.ModelInfer(raw())
    found = dict(zip((each.name for each in answer.outputs), answer.raw_output_contents, strict=True))
    assert found["y"] == (2 * X).tobytes()
    assert answer.id == "r1"


def test_the_models_tensors_are_described(http: httpx.Client, stub: oip_grpc.GRPCInferenceServiceStub) -> None:
    described = http.get("/v2/models/tensors").raise_for_status().json()
    assert described["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "s", "datatype": "BYTES", "shape": [-1]},
    ]
    metadata = stub.ModelMetadata(oip.ModelMetadataRequest(name="tensors"))
    assert [each.name for each in metadata.outputs] == ["y", "t", "n"]
    config = http.get("/v2/models/tensors/config").raise_for_status().json()
    assert [each["data_type"] for each in config["input"]] == ["TYPE_FP32", "TYPE_STRING"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "z"}, ["z"]),
        ({"datatype": "FP64"}, ["x", "FP32", "FP64"]),
        ({"shape": [4, 2]}, ["x", "[4, 2]"]),
        ({"shape": [8]}, ["x", "[8]"]),
        ({"shape": [2, 5]}, ["x", "10", "8"]),
        ({"shape": [2, -4]}, ["x", "negative"]),
    ],
)
def test_bad_tensors_are_400_and_named(http: httpx.Client, changes: dict[str, Any], words: list[str]) -> None:
    answer = http.post("/v2/models/tensors/infer", json=tensors(**changes))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert isinstance(error, str)
    assert [word for word in words if word not in error] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/tensors/versions/2", 404),
        ("POST", "/v2/models/nothing/infer", 404),
        ("GET", "/v2/models/tensors/infer", 405),
        ("GET", "/v2/nothing", 404),
        ("POST", "/v2/repository/models/tensors/load", 403),
        ("GET", "/v2/systemsharedmemory/status", 403),
        ("GET", "/v2/cudasharedmemory/status", 404),
        ("POST", "/v2/models/chat/generate", 400),
    ],
)
def test_errors_have_the_protocols_shape_and_status(http: httpx.Client, method: str, path: str, status: int) -> None:
    body = {"inputs": tensors()["inputs"]} if path.endswith("infer") else {}
    answer = http.request(method, path, json=body if method == "POST" else None)
    assert answer.status_code == status
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("health/live", {"live": True}),
        ("health/ready", {"ready": True}),
        ("models/tensors/ready", {"name": "tensors", "ready": True}),
        ("models/tensors/versions/1/ready", {"name": "tensors", "ready": True}),
    ],
)
def test_health_is_a_status_and_what_kserves_client_reads(http: httpx.Client, path: str, body: Any) -> None:
    answer = http.get(f"/v2/{path}")
    assert (answer.status_code, answer.json()) == (200, body)


def test_a_stream_is_answered_while_it_is_open(stub: oip_grpc.GRPCInferenceServiceStub) -> None:
    requests: queue.Queue[oip.ModelInferRequest | None] = queue.Queue()
    take: Callable[[], oip.ModelInferRequest | None] = lambda: requests.get(timeout=WAIT_S)  # noqa: E731
    answers = stub.ModelStreamInfer(iter(take, None), timeout=WAIT_S)
    for factor in (1, 2):
        requests.put(raw(factor * X))
        assert next(answers).infer_response.raw_output_contents[0] == (2 * factor * X).tobytes()
    requests.put(None)
    assert list(answers) == []


def test_operators_load_and_unload_a_language_model(
    http: httpx.Client, operator: oip_grpc.GRPCInferenceServiceStub
) -> None:
    assert http.get("/v2/models/chat/ready").status_code == 400
    operator.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="chat"))
    assert http.get("/v2/models/chat/ready").status_code == 200
    body = {"text_input": "hi", "parameters": {"max_tokens": 4, "temperature": 0}}
    whole = http.post("/v2/models/chat/generate", json=body).raise_for_status().json()
    with http.stream("POST", "/v2/models/chat/generate_stream", json=body) as streamed:
        assert streamed.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in streamed.iter_lines() if line]
    texts = [httpx.Response(200, text=line.removeprefix("data: ")).json()["text_output"] for line in lines]
    assert "".join(texts) == whole["text_output"]
    operator.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name="chat"))
    index = http.post("/v2/repository/index", content=b"").raise_for_status().json()
    assert {each["name"]: each["state"] for each in index} == {"chat": "UNAVAILABLE", "tensors": "READY"}
