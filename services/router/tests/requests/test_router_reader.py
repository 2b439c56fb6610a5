"""Large requests are read in another process, and the result is the same as on the loop."""

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import BodyConverter, Converted, convert_chat, convert_completion
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.kinds.generate import read_generate
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_router.requests.reader import RequestReader
from infermesh_runtime.errors import InvalidArgument

MIB = 1 << 20
RULES = BodyRules(ignore_unknown=True, max_bytes=64 * MIB, bounds=Bounds())


@pytest.fixture
async def pool() -> AsyncIterator[ParsingPool]:
    pool = ParsingPool(processes=1)
    yield pool
    await pool.close()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if a request is read in this process."""

    def fail(*_: object) -> None:
        raise AssertionError(f"read in process {os.getpid()}, on the event loop")

    monkeypatch.setattr(pb.GenerateRequest, "FromString", fail)
    monkeypatch.setattr(HttpBody, "FromString", fail)


def serialise(**fields: Any) -> bytes:
    body = json.dumps({"model": "m", "seed": 7} | fields).encode()
    return bytes(HttpBody(data=body).SerializeToString())


def same(one: Converted, other: Converted) -> bool:
    """All but what is made anew for each job."""
    shape: dict[str, Any] = {"id": "", "created_s": 0, "shape": one.job.shape}
    return replace(one.job, **shape) == replace(other.job, **shape) and one.ignored == other.ignored


async def test_a_large_chat(pool: ParsingPool) -> None:
    messages = [{"role": "user", "content": f"{i}, é " * 100} for i in range(3000)]
    body = serialise(messages=messages, unknown=1)
    assert same(await BodyConverter(pool, RULES).chat(body), convert_chat(body, RULES))


async def test_many_large_prompts(pool: ParsingPool) -> None:
    body = serialise(prompt=["x" * 1000 + str(i) for i in range(900)])
    converted = await BodyConverter(pool, RULES).completion(body)
    assert same(converted, convert_completion(body, RULES))
    assert len(converted.job.calls) == 900


@pytest.mark.usefixtures("elsewhere")
async def test_a_million_messages_are_refused_elsewhere(pool: ParsingPool) -> None:
    message = b'{"role":"user","content":"hi"}'
    data = b'{"model":"m","messages":[' + b",".join([message] * 1_000_000) + b"]}"
    with pytest.raises(InvalidArgument, match="1000002 of them arrays or objects"):
        await BodyConverter(pool, RULES).chat(HttpBody(data=data).SerializeToString())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"messages": [{"role": "user", "content": "hi"}] * 10_001}, "TOO_MANY_MESSAGES"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 5001}] * 2},
            "TOO_MANY_MESSAGES",
        ),
        ({"messages": [], **{f"x{i}": i for i in range(1001)}}, "REQUEST_TOO_COMPLEX"),
    ],
)
async def test_what_is_refused_before_the_schema_sees_it(
    pool: ParsingPool, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await BodyConverter(pool, RULES).chat(serialise(**fields))
    assert refused.value.reason == reason


async def test_a_large_native_request(pool: ParsingPool) -> None:
    messages = [pb.ChatMessage(role="user", content=f"{i}, é " * 500) for i in range(5000)]
    request = pb.GenerateRequest(model="m", seed=7, chat=pb.ChatPrompt(messages=messages), client_id="c")
    body = request.SerializeToString()
    assert await RequestReader(pool, Bounds()).generate(body) == read_generate(body)
    unseeded = pb.GenerateRequest(text="x" * (60 * MIB)).SerializeToString()
    read = await RequestReader(pool, Bounds()).generate(unseeded)
    assert read.body.startswith(unseeded)
    assert pb.GenerateRequest.FromString(read.body).HasField("seed")


@pytest.mark.usefixtures("elsewhere")
async def test_a_native_request_of_a_million_messages_is_refused_elsewhere(pool: ParsingPool) -> None:
    chat = pb.ChatPrompt(messages=[pb.ChatMessage(role="user")] * 1_000_000)
    body = pb.GenerateRequest(chat=chat).SerializeToString()
    with pytest.raises(InvalidArgument, match="more than 500000 fields"):
        await RequestReader(pool, Bounds()).generate(body)
