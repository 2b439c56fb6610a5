"""Every bad request fails with a status that carries ErrorInfo, and a bad field with a BadRequest that names it."""

from typing import Any, Protocol, cast

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1.tensor_pb2 import DataType, Tensor
from infermesh_runtime.errors import Code, InfermeshError
from infermesh_runtime.rpc.status import from_rpc_error
from tests.contract.target import CONTEXT_TOKENS, MODEL, Target

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAN = float("nan")


def ask(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"text": "hello", **fields})


def sampling(**fields: Any) -> pb.GenerateRequest:
    return ask(sampling=pb.SamplingParams(**fields))


def stop(**fields: Any) -> pb.GenerateRequest:
    return ask(stop=pb.StopConditions(**fields))


def ids(dtype: DataType, shape: list[int], data: bytes) -> pb.GenerateRequest:
    return pb.GenerateRequest(token_ids=Tensor(dtype=dtype, shape=shape, data=data))


def chat(role: str = "user", **fields: Any) -> pb.GenerateRequest:
    messages = [pb.ChatMessage(role=role, content="hi")]
    return pb.GenerateRequest(chat=pb.ChatPrompt(**{"messages": messages, **fields}))


def formatted(**fields: Any) -> pb.GenerateRequest:
    return ask(format=pb.OutputFormat(**fields))


def generated(choice: int, *token_ids: int, n: int = 1) -> pb.GenerateRequest:
    return ask(n=n, generated=[pb.Continuation(choice=choice, token_ids=token_ids)])


INT32, INT64, FP32 = DataType.DATA_TYPE_INT32, DataType.DATA_TYPE_INT64, DataType.DATA_TYPE_FP32

BAD = [
    ("sampling.temperature", sampling(temperature=-1)),
    ("sampling.temperature", sampling(temperature=2.5)),
    ("sampling.temperature", sampling(temperature=NAN)),
    ("sampling.top_p", sampling(top_p=0)),
    ("sampling.top_p", sampling(top_p=2)),
    ("sampling.min_p", sampling(min_p=-0.1)),
    ("sampling.min_p", sampling(min_p=NAN)),
    ("sampling.repetition_penalty", sampling(repetition_penalty=0)),
    ("sampling.repetition_penalty", sampling(repetition_penalty=float("inf"))),
    ("sampling.presence_penalty", sampling(presence_penalty=-3)),
    ("sampling.frequency_penalty", sampling(frequency_penalty=2.1)),
    ("sampling.logit_bias", sampling(logit_bias={2**31: 1})),
    ("sampling.logit_bias[65]", sampling(logit_bias={65: 101})),
    ("n", ask(n=0)),
    ("n", ask(n=129)),
    ("stop.max_tokens", stop(max_tokens=0)),
    ("stop.strings", stop(strings=["x"] * 17)),
    ("stop.strings[1]", stop(strings=["x", ""])),
    ("stop.token_ids", stop(token_ids=[2**31])),
    ("logprobs.top", ask(logprobs=pb.LogprobsOptions(top=21))),
    ("prompt", pb.GenerateRequest()),
    ("prompt", pb.GenerateRequest(text="")),
    ("prompt", ids(INT32, [0], b"")),
    ("token_ids", ids(FP32, [1], bytes(4))),
    ("token_ids", ids(DataType.DATA_TYPE_UNSPECIFIED, [1], bytes(4))),
    ("token_ids", ids(cast("DataType", 99), [1], bytes(4))),
    ("token_ids", ids(INT32, [2], bytes(4))),
    ("token_ids", ids(INT64, [1, 1], bytes(8))),
    ("token_ids", ids(INT32, [-1], b"")),
    ("token_ids", ids(INT64, [2**62], bytes(8))),
    ("token_ids", ids(INT32, [1], (2**31 - 1).to_bytes(4, "little"))),
    ("token_ids", ids(INT32, [1], b"\xff\xff\xff\xff")),
    ("chat.messages", chat(messages=[])),
    ("chat.messages[0].role", chat(role="king")),
    ("chat.tools", chat(tools=[pb.Tool(name="f")])),
    ("chat.template_kwargs_json", chat(template_kwargs_json="{")),
    ("chat.template_kwargs_json", chat(template_kwargs_json="[1]")),
    ("format", formatted()),
    ("format.json_schema", formatted(json_schema='{"type": "teapot"}')),
    ("format.json_schema", formatted(json_schema="not json")),
    ("format.regex", formatted(regex="(")),
    ("format.grammar", formatted(grammar="start: nowhere")),
    ("generated[0].choice", generated(1, 65)),
    ("generated[0].token_ids", generated(0, 2**31)),
]


class ResponseStream(Protocol):
    """A streaming call that has not been read."""

    async def read(self) -> object: ...


async def refuse(call: ResponseStream) -> InfermeshError:
    """The error that a call ends with at its first read."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert dict(refused.value.trailing_metadata() or ()).get("x-request-id")
    assert not tuple(refused.value.initial_metadata() or ())
    return from_rpc_error(refused.value)


@pytest.mark.parametrize(("field", "request_"), BAD, ids=[f"{field}-{i}" for i, (field, _) in enumerate(BAD)])
async def test_a_bad_field_is_named(target: Target, field: str, request_: pb.GenerateRequest) -> None:
    error = await refuse(target.stub.Generate(request_, timeout=20))
    assert error.code is Code.INVALID_ARGUMENT, error.message
    assert error.reason == "INVALID_ARGUMENT"
    assert field in error.fields, error.fields
    assert error.message


async def test_every_bad_field_is_named_at_once(target: Target) -> None:
    error = await refuse(target.stub.Generate(ask(n=0, sampling=pb.SamplingParams(temperature=-1, top_p=2))))
    assert {"n", "sampling.temperature", "sampling.top_p"} <= set(error.fields)


async def test_an_unknown_model(target: Target) -> None:
    error = await refuse(target.stub.Generate(ask(model="nobody")))
    assert (error.code, error.reason, error.metadata["model"]) == (Code.NOT_FOUND, "MODEL_NOT_FOUND", "nobody")
    assert MODEL in error.message


@pytest.mark.parametrize("device", ["cuda", "gpu", "xpu", "tpu", "127.0.0.1:1"])
async def test_an_unknown_device(target: Target, device: str) -> None:
    error = await refuse(target.stub.Generate(ask(device=device)))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "DEVICE_NOT_AVAILABLE")
    assert "cpu" in error.message


async def test_a_prompt_longer_than_the_context(target: Target) -> None:
    error = await refuse(target.stub.Generate(ask(text="x" * 600)))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED")
    assert (error.metadata["prompt_tokens"], error.metadata["context_length"]) == ("600", str(CONTEXT_TOKENS))


async def test_bytes_that_are_not_a_message(target: Target) -> None:
    raw = target.channel.unary_stream("/infermesh.inference.v1.InferenceService/Generate")
    error = await refuse(raw(b"\xff\xff\xff\xff", timeout=10))
    assert error.code is Code.INVALID_ARGUMENT


async def test_text_that_is_not_utf8(target: Target) -> None:
    raw = target.channel.unary_stream("/infermesh.inference.v1.InferenceService/Generate")
    error = await refuse(raw(b"\x12\x02\xff\xff", timeout=10))
    assert error.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("request_", [pb.EmbedRequest(texts=["x"]), pb.InferRequest()])
async def test_what_the_model_cannot_do_is_unimplemented(
    target: Target, request_: pb.EmbedRequest | pb.InferRequest
) -> None:
    method = target.stub.Embed if isinstance(request_, pb.EmbedRequest) else target.stub.Infer
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await method(request_, timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_unknown_method(target: Target) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await target.channel.unary_unary("/infermesh.inference.v1.InferenceService/Sing")(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
