"""Language models through the Open Inference Protocol: the same job as a completion, in the protocol's words."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2
from infermesh.kserve.v1 import kserve_pb2 as pb
from infermesh.kserve.v1 import kserve_pb2_grpc as pb_grpc
from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.testing.router import RunningRouter, delta, running_router, started
from infermesh_router.testing.tensors import TensorWorker, call, stub
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.status import from_rpc_error

pytestmark = pytest.mark.asyncio(loop_scope="module")
module_fixture = pytest_asyncio.fixture(scope="module", loop_scope="module")


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


async def post(router: RunningRouter, method: str, body: Any, model: str = "m") -> tuple[bytes, dict[str, Any]]:
    """What Generate or GenerateStream answers, and its headers. Raises the status's InfermeshError."""
    request = pb.ModelBody(model=model, content=HttpBody(data=json.dumps(body).encode()))
    answering = getattr(pb_grpc.KServeServiceStub(router.channel), method)(request)
    try:
        messages = [message async for message in answering]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return b"".join(message.data for message in messages), dict(await answering.initial_metadata())


def events(data: bytes) -> list[Any]:
    return [json.loads(block.removeprefix("data: ")) for block in data.decode().removesuffix("\n\n").split("\n\n")]


def request(
    text: str = "hi", *, stream: bool | None = None, sampling: str = "", **parameters: Any
) -> oip.ModelInferRequest:
    made = oip.ModelInferRequest(model_name="m", id="r1")

    def add(name: str, datatype: str, raw: bytes) -> None:
        made.inputs.add(name=name, datatype=datatype, shape=[1])
        made.raw_input_contents.append(raw)

    add("text_input", "BYTES", len(text.encode()).to_bytes(4, "little") + text.encode())
    if stream is not None:
        add("stream", "BOOL", bytes([stream]))
    if sampling:
        add("sampling_parameters", "BYTES", len(sampling).to_bytes(4, "little") + sampling.encode())
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
        setattr(made.parameters[name], kind, value)
    return made


async def ask_stream(router: RunningRouter, *requests: oip.ModelInferRequest) -> list[oip.ModelStreamInferResponse]:
    async def sent() -> AsyncIterator[oip.ModelInferRequest]:
        for each in requests:
            yield each

    return [answer async for answer in stub(router).ModelStreamInfer(sent())]


def text_of(response: oip.ModelInferResponse) -> str:
    return response.raw_output_contents[0][4:].decode() if response.raw_output_contents else ""


async def test_generate_answers_with_text(router: RunningRouter, worker: TensorWorker) -> None:
    body = {"id": "a", "text_input": "hi", "parameters": {"max_tokens": 7, "temperature": 0, "timeout": 5_000_000}}
    data, headers = await post(router, "Generate", body)
    assert json.loads(data) == {"id": "a", "model_name": "m", "model_version": "1", "text_output": "Hello world"}
    sent = worker.requests[-1]
    assert (sent.text, sent.stop.max_tokens, sent.sampling.temperature) == ("hi", 7, 0)
    assert 0 < (worker.remaining_s[-1] or 0) < 6  # gRPC may round it up
    assert headers["x-infermesh-device"] == "cpu"


async def test_sampling_parameters_may_stand_in_three_places(router: RunningRouter, worker: TensorWorker) -> None:
    for body in (
        {"max_tokens": 5, "top_k": 3, "stop": ["x"]},
        {"parameters": {"max_tokens": 5, "top_k": 3, "stop": ["x"]}},
        {"sampling_parameters": json.dumps({"max_tokens": "5", "top_k": "3", "stop": ["x"]})},
        {"sampling_parameters": {"max_tokens": 5, "top_k": 3, "stop": "x"}},
    ):
        await post(router, "Generate", {"text_input": "hi", **body})
        sent = worker.requests[-1]
        assert (sent.stop.max_tokens, sent.sampling.top_k, list(sent.stop.strings)) == (5, 3, ["x"])


async def test_the_answer_may_begin_with_the_text(router: RunningRouter) -> None:
    data, _ = await post(router, "Generate", {"text_input": "hi ", "exclude_input_in_output": False})
    assert json.loads(data)["text_output"] == "hi Hello world"


async def test_generate_stream_sends_events(router: RunningRouter) -> None:
    data, _ = await post(router, "GenerateStream", {"text_input": "hi", "parameters": {"stream": True}})
    assert [each["text_output"] for each in events(data)] == ["Hello", " world"]
    assert events(data)[0] == {"model_name": "m", "model_version": "1", "text_output": "Hello"}


async def test_an_error_in_a_stream_is_its_last_event() -> None:
    async def break_off(request: inference_pb2.GenerateRequest, context: Any) -> AsyncIterator[Any]:
        yield started("m")
        yield delta("Hel")
        await context.abort(grpc.StatusCode.INTERNAL, "The device is on fire.")

    worker = TensorWorker(script=break_off)
    await worker.start()
    try:
        async with running_router(worker.address) as router:
            data, _ = await post(router, "GenerateStream", {"text_input": "hi"})
            assert events(data)[0]["text_output"] == "Hel"
            assert "error" in events(data)[-1]
            answers = await ask_stream(router, request(stream=True))
            assert text_of(answers[0].infer_response) == "Hel"
            assert answers[-1].error_message
            assert answers[-1].infer_response.id == "r1"
    finally:
        await worker.stop()


@pytest.mark.parametrize(
    ("method", "body", "words"),
    [
        ("Generate", {}, "'text_input' is required"),
        ("Generate", {"text_input": 3}, "'text_input'"),
        ("Generate", {"text_input": "hi", "stream": True}, "'stream' must be false"),
        ("Generate", {"text_input": "hi", "parameters": {"n": 2}}, "'n' must be 1"),
        ("Generate", {"text_input": "hi", "parameters": {"sequence_id": 2}}, "'sequence_id'"),
        ("Generate", {"text_input": "hi", "temperature": 9}, "'temperature'"),
        ("Generate", {"text_input": "hi", "timeout": "soon"}, "'timeout'"),
        ("Generate", {"text_input": "hi", "sampling_parameters": "{"}, "not valid JSON"),
        ("GenerateStream", {"text_input": "hi", "exclude_input_in_output": False}, "must be true in a stream"),
    ],
)
async def test_bad_bodies_are_refused_by_name(router: RunningRouter, method: str, body: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        await post(router, method, body)


async def test_model_infer_answers_with_one_tensor(router: RunningRouter, worker: TensorWorker) -> None:
    answer = await call(router, "ModelInfer", request(sampling='{"max_tokens": 9}', temperature=0.5))
    assert (answer.id, answer.outputs[0].name, answer.outputs[0].datatype) == ("r1", "text_output", "BYTES")
    assert (list(answer.outputs[0].shape), text_of(answer)) == ([1], "Hello world")
    assert (worker.requests[-1].stop.max_tokens, worker.requests[-1].sampling.temperature) == (9, 0.5)
    typed = oip.ModelInferRequest(model_name="m")
    typed.inputs.add(
        name="text_input", datatype="BYTES", shape=[1], contents=oip.InferTensorContents(bytes_contents=[b"hi"])
    )
    answer = await call(router, "ModelInfer", typed)
    assert list(answer.outputs[0].contents.bytes_contents) == [b"Hello world"]


async def test_a_stream_gives_text_as_it_comes(router: RunningRouter) -> None:
    answers = await ask_stream(router, request(stream=True), request(stream=False), request())
    assert [text_of(answer.infer_response) for answer in answers] == ["Hello", " world", "Hello world", "Hello world"]
    assert {answer.infer_response.id for answer in answers} == {"r1"}
    asked = request(stream=True, triton_enable_empty_final_response=True)
    answers = await ask_stream(router, asked)
    final = [answer.infer_response.parameters["triton_final_response"].bool_param for answer in answers]
    assert final == [False, False, True]
    assert not answers[-1].infer_response.outputs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.inputs[0].shape.append(2), r"shape \[1\], not \[1, 2\]"),
        (lambda r: r.inputs.add(name="top_k", datatype="INT32", shape=[1]), "needs|entries"),
        (lambda r: r.outputs.add(name="logits"), "'logits' is not an output"),
        (lambda r: setattr(r.inputs[1], "datatype", "UINT8"), "'stream' must be BOOL"),
        (lambda r: r.raw_input_contents.__setitem__(0, b"\x01\x00\x00\x00\xff"), "not UTF-8"),
        (lambda r: r.raw_input_contents.__setitem__(0, b"\x09\x00\x00\x00a"), "text_input"),
        (lambda r: r.raw_input_contents.__setitem__(1, b"\x01"), "'stream' must be false"),
    ],
)
async def test_bad_inputs_are_refused_by_name(router: RunningRouter, change: Any, words: str) -> None:
    asked = request(stream=False)
    change(asked)
    with pytest.raises(InvalidArgument, match=words):
        await call(router, "ModelInfer", asked)


async def test_a_model_of_tensors_may_have_an_input_of_that_name(router: RunningRouter, worker: TensorWorker) -> None:
    asked = request()
    asked.model_name = "echo"
    assert (await call(router, "ModelInfer", asked)).outputs[0].name == "text_input"
    assert worker.inferred[-1].model == "echo"
    tensor = oip.ModelInferRequest(model_name="echo", raw_input_contents=[np.zeros(1, np.float32).tobytes()])
    tensor.inputs.add(name="text_input", datatype="FP32", shape=[1])
    assert (await call(router, "ModelInfer", tensor)).outputs[0].datatype == "FP32"
