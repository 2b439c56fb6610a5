"""tritonclient, unmodified, over gRPC and HTTP: every call of the Open Inference Protocol that the router serves."""

import json
import os
import queue
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http_client
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException, shared_memory

from tests.clients.running import DEV_VENV, ROOT, START_S

X = np.arange(8, dtype=np.float32).reshape(2, 4)
WAIT_S = 30
TYPES = [
    *("BOOL", "BYTES", "BF16", "FP16", "FP32", "FP64"),
    *(f"{u}INT{n}" for u in ("", "U") for n in (8, 16, 32, 64)),
]


@pytest.fixture(scope="module")
def mesh() -> Iterator[dict[str, str]]:
    """Where the mesh of tensor_mesh is: "http", "grpc" and "admin"."""
    command = [str(DEV_VENV / "bin" / "python"), "-m", "tests.clients.tensor_mesh"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        yield {name: address.removeprefix("http://") for name, address in told.items()}
    finally:
        process.stdin.close()
        process.wait(START_S)
        process.stdout.close()


class Kind:
    """One of the two clients, with its module."""

    def __init__(self, module: Any, address: str) -> None:
        self.module = module
        self.client = module.InferenceServerClient(address)

    def input(self, name: str, array: np.ndarray, datatype: str = "", **options: Any) -> Any:
        made = self.module.InferInput(name, list(array.shape), datatype or _type_of(array))
        made.set_data_from_numpy(array, **options)
        return made


@pytest.fixture(scope="module", params=["grpc", "http"])
def kind(request: pytest.FixtureRequest, mesh: dict[str, str]) -> Iterator[Kind]:
    made = Kind({"grpc": grpc_client, "http": http_client}[request.param], mesh[request.param])
    yield made
    made.client.close()


@pytest.fixture(scope="module")
def over_grpc(mesh: dict[str, str]) -> Iterator[Kind]:
    made = Kind(grpc_client, mesh["grpc"])
    yield made
    made.client.close()


@pytest.fixture(scope="module")
def over_http(mesh: dict[str, str]) -> Iterator[Kind]:
    made = Kind(http_client, mesh["http"])
    yield made
    made.client.close()


def _type_of(array: np.ndarray) -> str:
    from tritonclient.utils import np_to_triton_dtype

    return str(np_to_triton_dtype(array.dtype))


def sample(datatype: str) -> np.ndarray:
    if datatype == "BYTES":
        return np.array([["", "grüß"], ["a" * 300, "\0"]], object)
    if datatype == "BF16":
        return np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
    numpy_type = {"BOOL": "?", "FP16": "f2", "FP32": "f4", "FP64": "f8"}.get(datatype)
    if numpy_type is None:
        limits = np.iinfo(datatype.lower())
        return np.array([[limits.min, 0, limits.max]], datatype.lower())
    return np.array([[0, 1, 1]], numpy_type)


def same(found: np.ndarray, given: np.ndarray) -> bool:
    if given.dtype != np.object_:
        return found.dtype == given.dtype and np.array_equal(found, given)
    texts = [each.decode() if isinstance(each, bytes) else each for each in found.ravel()]
    return found.shape == given.shape and texts == list(given.ravel())


def field(answer: Any, name: str) -> Any:
    """A field of an answer, which is a message over gRPC and a dict over HTTP."""
    return answer[name] if isinstance(answer, dict) else getattr(answer, name)


def test_health_and_metadata(kind: Kind) -> None:
    client = kind.client
    assert client.is_server_live()
    assert client.is_server_ready()
    for name, version, ready in (("echo", "", True), ("team/echo", "1", True), ("echo", "3", False), ("no", "", False)):
        assert client.is_model_ready(name, version) is ready
    assert field(client.get_server_metadata(), "name") == "infermesh"
    metadata = client.get_model_metadata("team/echo")
    assert field(metadata, "versions") == ["1"]
    assert field(field(metadata, "inputs")[0], "datatype") == "FP32"
    assert list(field(field(metadata, "inputs")[0], "shape")) == [-1, 2]
    config = client.get_model_config("team/echo", "1")
    config = config if isinstance(config, dict) else config.config
    assert field(config, "name") == "team/echo"
    assert field(config, "max_batch_size") == 0


def test_statistics_and_index(kind: Kind) -> None:
    kind.client.infer("double", [kind.input("x", X)])
    for arguments in ((), ("double",), ("double", "1")):
        stats = field(kind.client.get_inference_statistics(*arguments), "model_stats")
        counted = {field(each, "name"): field(each, "inference_count") for each in stats}
        assert counted["double"] > 0
    index = kind.client.get_model_repository_index()
    entries = index if isinstance(index, list) else index.models
    assert {field(each, "name"): field(each, "state") for each in entries}["team/echo"] == "READY"


@pytest.mark.parametrize("datatype", TYPES)
def test_every_type_comes_back_equal(kind: Kind, datatype: str) -> None:
    given = sample(datatype)
    answer = kind.client.infer("echo", [kind.input("x", given, datatype)], request_id="r1")
    assert same(answer.as_numpy("x"), given)
    assert field(answer.get_response(), "id") == "r1"


@pytest.mark.parametrize("datatype", [each for each in TYPES if each != "BF16"])
def test_every_type_comes_back_equal_as_json(over_http: Kind, datatype: str) -> None:
    given = sample(datatype)
    outputs = [http_client.InferRequestedOutput("x", binary_data=False)]
    answer = over_http.client.infer("echo", [over_http.input("x", given, datatype, binary_data=False)], outputs=outputs)
    assert same(answer.as_numpy("x"), given)
    assert "data" in answer.get_output("x")


def test_infinities_and_nan_in_json(over_http: Kind) -> None:
    given = np.array([np.nan, np.inf, -np.inf], np.float32)
    outputs = [http_client.InferRequestedOutput("x", binary_data=False)]
    answer = over_http.client.infer("echo", [over_http.input("x", given, binary_data=False)], outputs=outputs)
    assert np.array_equal(answer.as_numpy("x"), given, equal_nan=True)


def test_outputs_versions_parameters_and_names_with_slashes(kind: Kind) -> None:
    outputs = [kind.module.InferRequestedOutput(name) for name in ("b", "a")]
    answer = kind.client.infer(
        "team/echo",
        [kind.input("a", X), kind.input("b", X + 1), kind.input("c", X + 2)],
        model_version="1",
        outputs=outputs,
        priority=3,
        timeout=20_000_000,
        parameters={"device": "cpu"},
    )
    assert same(answer.as_numpy("b"), X + 1)
    assert answer.as_numpy("c") is None


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(kind: Kind, algorithm: str) -> None:
    given = np.zeros((500, 400), np.float32)
    http = kind.module is http_client
    options = {"request_compression_algorithm": algorithm} if http else {"compression_algorithm": algorithm}
    if http:
        options["response_compression_algorithm"] = algorithm
    assert same(kind.client.infer("double", [kind.input("x", given)], **options).as_numpy("y"), given)


def test_large_tensors(kind: Kind) -> None:
    given = np.random.default_rng(0).standard_normal((1024, 2048), np.float32)
    assert same(kind.client.infer("double", [kind.input("x", given)]).as_numpy("y"), 2 * given)


BAD: list[tuple[str, str, Callable[[Any], None] | None, dict[str, Any]]] = [
    ("nothing", "nothing", None, {}),
    ("echo", "version '7'", None, {"model_version": "7"}),
    ("echo", "'x'.*negative", lambda made: made.set_shape([-2, 4]), {}),
    ("echo", "'x'.*needs 36 bytes; it has 32", lambda made: made.set_shape([9]), {}),
    ("echo", "sequence_", None, {"sequence_id": 5, "sequence_start": True}),
    ("echo", "'colour' has no meaning", None, {"parameters": {"colour": "red"}}),
    ("echo", "device|cuda", None, {"parameters": {"device": "cuda"}}),
]


@pytest.mark.parametrize(("model", "words", "change", "options"), BAD)
def test_bad_requests_are_refused_by_name(
    kind: Kind, model: str, words: str, change: Callable[[Any], None] | None, options: dict[str, Any]
) -> None:
    made = kind.input("x", X)
    if change is not None:
        change(made)
    with pytest.raises(InferenceServerException, match=words) as refused:
        kind.client.infer(model, [made], **options)
    not_found = model == "nothing" or "model_version" in options
    code = ("404" if not_found else "400") if kind.module is http_client else ""
    assert code in str(refused.value.status())
    if kind.module is grpc_client:
        assert ("NOT_FOUND" in refused.value.status()) is not_found


def test_operators_alone_load_and_unload(kind: Kind, mesh: dict[str, str]) -> None:
    for command in (kind.client.load_model, kind.client.unload_model):
        with pytest.raises(InferenceServerException, match="Operators") as refused:
            command("echo")
        assert refused.value.status() in ("403", "StatusCode.PERMISSION_DENIED")
    with (
        grpc_client.InferenceServerClient(mesh["admin"]) as operator,
        pytest.raises(InferenceServerException, match="nothing"),
    ):
        operator.unload_model("nothing")


def test_shared_memory(kind: Kind) -> None:
    key = f"infermesh-client-{os.getpid()}"
    region = shared_memory.create_shared_memory_region("r", key, 4 * X.nbytes)
    client = kind.client
    try:
        shared_memory.set_shared_memory_region(region, [X])
        client.register_system_shared_memory("r/1", f"/{key}", 4 * X.nbytes)
        status = client.get_system_shared_memory_status("r/1")
        assert "r/1" in (status.regions if kind.module is grpc_client else [each["name"] for each in status])
        given = kind.module.InferInput("x", list(X.shape), "FP32")
        given.set_shared_memory("r/1", X.nbytes)
        wanted = kind.module.InferRequestedOutput("y")
        wanted.set_shared_memory("r/1", X.nbytes, X.nbytes)
        answer = client.infer("double", [given], outputs=[wanted])
        assert answer.get_output("y") is not None
        assert same(shared_memory.get_contents_as_numpy(region, np.float32, list(X.shape), X.nbytes), 2 * X)
        given.set_shared_memory("r/1", X.nbytes, 4 * X.nbytes)
        with pytest.raises(InferenceServerException, match="beyond its end"):
            client.infer("double", [given])
        with pytest.raises(InferenceServerException, match="must be the name"):
            client.register_system_shared_memory("r2", "/../etc/passwd", 1)
        client.unregister_system_shared_memory("r/1")
        with pytest.raises(InferenceServerException, match="no shared memory region"):
            client.infer("double", [given])
    finally:
        client.unregister_system_shared_memory()
        shared_memory.destroy_shared_memory_region(region)


def test_async_over_grpc_and_cancellation(over_grpc: Kind) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def take(result: Any, error: Any) -> None:
        answers.put((result, error))

    before = _cancelled(over_grpc)
    over_grpc.client.async_infer("double", [over_grpc.input("x", X)], take)
    result, error = answers.get(timeout=WAIT_S)
    assert error is None
    assert same(result.as_numpy("y"), 2 * X)
    call = over_grpc.client.async_infer("slow", [over_grpc.input("x", X)], take, client_timeout=WAIT_S)
    with pytest.raises(InferenceServerException, match=r"Deadline Exceeded|DEADLINE"):
        over_grpc.client.infer("slow", [over_grpc.input("x", X)], client_timeout=0.5)
    call.cancel()
    _, error = answers.get(timeout=WAIT_S)
    assert "CANCELLED" in error.status()
    for _ in range(1000):
        if _cancelled(over_grpc) == before + 2:
            return
    pytest.fail("the worker was not told that the calls were cancelled")


def _cancelled(kind: Kind) -> int:
    return int(kind.client.infer("cancelled", [kind.input("x", X)]).as_numpy("count")[0])


def test_async_over_http(over_http: Kind) -> None:
    running = [over_http.client.async_infer("double", [over_http.input("x", X + i)]) for i in range(4)]
    for i, each in enumerate(running):
        assert same(each.get_result().as_numpy("y"), 2 * (X + i))


async def _asyncio(module: Any, address: str) -> np.ndarray:
    async with module.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        given = module.InferInput("x", list(X.shape), "FP32")
        given.set_data_from_numpy(X)
        answer: np.ndarray = (await client.infer("double", [given])).as_numpy("y")
        return answer


def test_asyncio_clients(mesh: dict[str, str]) -> None:
    import asyncio

    assert same(asyncio.run(_asyncio(grpc_aio, mesh["grpc"])), 2 * X)
    assert same(asyncio.run(_asyncio(http_aio, mesh["http"])), 2 * X)


def _text_inputs(text: str, *, stream: bool) -> list[Any]:
    given = grpc_client.InferInput("text_input", [1], "BYTES")
    given.set_data_from_numpy(np.array([text], object))
    streams = grpc_client.InferInput("stream", [1], "BOOL")
    streams.set_data_from_numpy(np.array([stream]))
    return [given, streams]


def test_streams_of_tensors_and_texts(over_grpc: Kind) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client = over_grpc.client
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        client.async_stream_infer("double", [over_grpc.input("x", X)], request_id="1")
        result, error = answers.get(timeout=WAIT_S)  # it comes while the stream is open
        assert error is None
        assert same(result.as_numpy("y"), 2 * X)
        client.async_stream_infer("nothing", [over_grpc.input("x", X)], request_id="2")
        result, error = answers.get(timeout=WAIT_S)
        assert "nothing" in str(error)
        client.async_stream_infer("m", _text_inputs("hi", stream=True), enable_empty_final_response=True)
        texts = []
        while True:
            result, error = answers.get(timeout=WAIT_S)
            assert error is None
            if result.get_response().parameters["triton_final_response"].bool_param:
                break
            texts.append(result.as_numpy("text_output")[0].decode())
        assert texts == ["Hello", " world"]
    finally:
        client.stop_stream()


def test_a_stream_can_be_cancelled(over_grpc: Kind) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    before = _cancelled(over_grpc)
    over_grpc.client.start_stream(lambda result, error: answers.put((result, error)))
    over_grpc.client.async_stream_infer("double", [over_grpc.input("x", X)])
    answers.get(timeout=WAIT_S)
    over_grpc.client.async_stream_infer("slow", [over_grpc.input("x", X)])
    with pytest.raises(
        InferenceServerException, match=r"Deadline Exceeded|DEADLINE"
    ):  # by then the other one runs, too
        over_grpc.client.infer("slow", [over_grpc.input("x", X)], client_timeout=0.5)
    over_grpc.client.stop_stream(cancel_requests=True)
    for _ in range(1000):
        if _cancelled(over_grpc) == before + 2:
            return
    pytest.fail("the worker was not told that the stream was cancelled")


def test_texts(kind: Kind) -> None:
    given = kind.module.InferInput("text_input", [1], "BYTES")
    given.set_data_from_numpy(np.array(["hi"], object))
    answer = kind.client.infer("m", [given], parameters={"max_tokens": 5, "temperature": 0.5})
    assert answer.as_numpy("text_output").tolist() == [b"Hello world"]
