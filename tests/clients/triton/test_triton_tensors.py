"""tritonclient, unmodified, over gRPC and HTTP: facts, tensors of every type, compression, refusals and commands."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from tests.clients.triton.client import TYPES, Kind, X, field, same, sample


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
