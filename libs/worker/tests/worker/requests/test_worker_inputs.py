"""Invalid requests get the right code and the field's name, and the worker goes on."""

import asyncio
from typing import Any, cast

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh.tensor.v1.tensor_pb2 import DataType, Tensor
from infermesh_runtime.errors import Code, InfermeshError
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_runtime.tensors import from_numpy
from infermesh_worker.rpc.prompts.prompt import tokenize
from infermesh_worker.testing.simulated import SimulatedSettings, opened_model
from infermesh_worker.testing.simulated_engine import SPECIAL_TOKENS, VOCAB_SIZE

pytestmark = pytest.mark.asyncio(loop_scope="module")

USER = pb.ChatMessage(role="user", content="hi")


def ids(values: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> Tensor:
    return from_numpy(np.array(values, dtype=dtype))


def chat(*messages: pb.ChatMessage, **fields: Any) -> dict[str, Any]:
    return {"chat": pb.ChatPrompt(messages=messages, **fields)}


def sampling(**fields: Any) -> dict[str, Any]:
    return {"text": "a", "sampling": pb.SamplingParams(**fields)}


def stop(**fields: Any) -> dict[str, Any]:
    return {"text": "a", "stop": pb.StopConditions(**fields)}


def called(arguments: str) -> pb.ChatMessage:
    return pb.ChatMessage(role="assistant", tool_calls=[pb.ToolCall(id="1", name="f", arguments_json=arguments)])


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "no prompt": ("prompt", {}),
    "empty text": ("prompt", {"text": ""}),
    "ids of a float type": ("token_ids", {"token_ids": ids([1], np.float32)}),
    "ids of no type": ("token_ids", {"token_ids": Tensor(shape=[1], data=b"0123")}),
    "ids of an unknown type": ("token_ids", {"token_ids": Tensor(dtype=cast(DataType, 99), shape=[1], data=b"0123")}),
    "ids of two dimensions": ("token_ids", {"token_ids": ids([[1, 2]])}),
    "no ids": ("prompt", {"token_ids": ids([])}),
    "id beyond the vocabulary": ("token_ids", {"token_ids": ids([1, 259])}),
    "negative id": ("token_ids", {"token_ids": ids([-1])}),
    "ids too short for their shape": (
        "token_ids",
        {"token_ids": Tensor(dtype=DataType.DATA_TYPE_INT64, shape=[2], data=b"\0" * 8)},
    ),
    "no messages": ("chat.messages", chat()),
    "unknown role": ("chat.messages[1].role", chat(USER, pb.ChatMessage(role="robot"))),
    "tools without tools": ("chat.tools", chat(USER, tools=[pb.Tool(name="f")])),
    "kwargs that are no JSON": ("chat.template_kwargs_json", chat(USER, template_kwargs_json="{")),
    "kwargs that are no object": ("chat.template_kwargs_json", chat(USER, template_kwargs_json="[]")),
    "kwargs that replace messages": ("chat.template_kwargs_json", chat(USER, template_kwargs_json='{"messages":[]}')),
    "temperature": ("sampling.temperature", sampling(temperature=-1)),
    "temperature that is no number": ("sampling.temperature", sampling(temperature=float("nan"))),
    "top_p": ("sampling.top_p", sampling(top_p=2)),
    "min_p": ("sampling.min_p", sampling(min_p=-0.1)),
    "repetition_penalty": ("sampling.repetition_penalty", sampling(repetition_penalty=0)),
    "presence_penalty": ("sampling.presence_penalty", sampling(presence_penalty=3)),
    "frequency_penalty": ("sampling.frequency_penalty", sampling(frequency_penalty=float("inf"))),
    "n": ("n", {"text": "a", "n": 0}),
    "priority": ("priority", {"text": "a", "priority": 101}),
    "max_tokens": ("stop.max_tokens", stop(max_tokens=0)),
    "logprobs": ("logprobs.top", {"text": "a", "logprobs": pb.LogprobsOptions(top=21)}),
    "format without constraint": ("format", {"text": "a", "format": pb.OutputFormat()}),
    "schema": ("format.json_schema", {"text": "a", "format": pb.OutputFormat(json_schema="{")}),
    "regex": ("format.regex", {"text": "a", "format": pb.OutputFormat(regex="(")}),
    "grammar": ("format.grammar", {"text": "a", "format": pb.OutputFormat(grammar="start: nothing")}),
}


@pytest.mark.parametrize(("field", "fields"), CASES.values(), ids=CASES.keys())
async def test_bad_field_is_named(stub: InferenceServiceStub, field: str, fields: dict[str, Any]) -> None:
    error = await refused(stub, pb.GenerateRequest(**fields))
    assert error.code is Code.INVALID_ARGUMENT
    assert field in error.fields, error.fields


async def test_several_bad_fields_are_named_together(stub: InferenceServiceStub) -> None:
    error = await refused(stub, pb.GenerateRequest(**sampling(temperature=-1, top_p=2), n=0))
    assert set(error.fields) == {"sampling.temperature", "sampling.top_p", "n"}


@pytest.mark.parametrize("text", ["x" * 8192, "x" * 100_000])
async def test_prompt_beyond_the_context_says_both_lengths(stub: InferenceServiceStub, text: str) -> None:
    error = await refused(stub, pb.GenerateRequest(text=text))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED")
    assert error.metadata == {"prompt_tokens": str(len(text)), "context_length": "8192"}


async def test_text_far_beyond_the_context_is_refused_unread(stub: InferenceServiceStub) -> None:
    error = await refused(stub, pb.GenerateRequest(text="x" * 20_000_000))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED")
    longest = max(map(len, SPECIAL_TOKENS))
    assert error.metadata == {"prompt_tokens": str(20_000_000 // longest), "context_length": "8192"}
    assert "at least" in error.message


async def test_others_run_while_a_long_text_is_tokenised() -> None:
    model = opened_model(SimulatedSettings.model_validate({"listen": "127.0.0.1:0"}))
    request = pb.GenerateRequest(text="word " * 100_000)
    tokenizing = asyncio.create_task(tokenize(request, model, vocab_size=VOCAB_SIZE, context_length=1_000_000))
    turns = 0
    while not tokenizing.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert len(await tokenizing) == 500_000
    assert turns > 10


async def test_prompt_beyond_the_cache_is_refused(stub: InferenceServiceStub) -> None:
    error = await refused(stub, pb.GenerateRequest(text="x" * 5000))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "KV_CACHE_TOO_SMALL")


@pytest.mark.parametrize("device", ["gpu", "cuda", "tpu"])
async def test_device_that_is_not_there_names_what_is(stub: InferenceServiceStub, device: str) -> None:
    error = await refused(stub, pb.GenerateRequest(text="a", device=device))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "DEVICE_NOT_AVAILABLE")
    assert "runs on cpu (simulated)" in error.message


@pytest.mark.parametrize("device", ["", "auto", "cpu", "CPU"])
async def test_device_that_is_there_serves(stub: InferenceServiceStub, device: str) -> None:
    request = pb.GenerateRequest(text="a", device=device, stop=pb.StopConditions(max_tokens=1))
    assert (await stub.Generate(request, timeout=30).read()).HasField("started")


async def refused(stub: InferenceServiceStub, request: pb.GenerateRequest) -> InfermeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(request, timeout=30).read()
    assert "internal" not in caught.value.details()
    return from_rpc_error(caught.value)


async def test_more_messages_than_the_context_has_tokens_are_refused_unread(stub: InferenceServiceStub) -> None:
    robots = [pb.ChatMessage(role="robot", content="x")] * 9000
    error = await refused(stub, pb.GenerateRequest(chat=pb.ChatPrompt(messages=robots)))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED")


async def test_more_ids_than_the_context_are_refused_unread(stub: InferenceServiceStub) -> None:
    ids = Tensor(dtype=DataType.DATA_TYPE_INT32, shape=[100_000], data=np.full(100_000, -1, "<i4").tobytes())
    error = await refused(stub, pb.GenerateRequest(token_ids=ids))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED")
