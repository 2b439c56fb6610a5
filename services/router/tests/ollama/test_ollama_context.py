"""The `context` of /api/generate holds the conversation: it is returned, and taken back with the next prompt."""

import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.ollama.context import MAX_BYTES, read_context, write_context
from infermesh_router.ollama.convert import convert_generate
from infermesh_router.ollama.schema import Said
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.requests.bounds import Bounds
from infermesh_router.testing.dialects.ollama import generate
from infermesh_router.testing.router import StartRouter, StartWorker
from infermesh_runtime.errors import InvalidArgument

SAID = [Said(role="system", content="Be kind ☺"), Said(role="user", content="hi"), Said(role="assistant", content="")]
RULES = BodyRules(ignore_unknown=True, max_bytes=1 << 20, bounds=Bounds())


def messages_of(rules: BodyRules = RULES, **body: Any) -> list[tuple[str, str]]:
    message = HttpBody(data=json.dumps({"model": "m", "prompt": "more"} | body).encode()).SerializeToString()
    (call,) = convert_generate(message, rules).job.calls
    return [(told.role, told.content) for told in pb.GenerateRequest.FromString(call.body).chat.messages]


@pytest.mark.parametrize("said", [SAID, SAID[1:], SAID[:1] + SAID])
def test_what_was_written_is_read(said: list[Said]) -> None:
    numbers = write_context(said)
    assert numbers is not None
    assert all(0 <= number < 1 << 16 for number in numbers)
    assert read_context(json.loads(json.dumps(numbers))) == said


def test_long_conversations_have_none() -> None:
    assert write_context([Said(role="user", content="x" * MAX_BYTES)]) is None


def changed(numbers: list[int], at: int) -> list[int]:
    return [*numbers[:at], numbers[at] ^ 1, *numbers[at + 1 :]]


@pytest.mark.parametrize("at", [0, 1, 2, 5, -1])
def test_numbers_that_were_changed_are_refused(at: int) -> None:
    numbers = write_context(SAID) or []
    with pytest.raises(InvalidArgument, match="'context' was not made by this server"):
        read_context(changed(numbers, at % len(numbers)))


@pytest.mark.parametrize("numbers", [[1], [1, 2, 3], [9906, 527, 128_000, 4], (write_context(SAID) or [])[:-4]])
def test_tokens_of_another_server_are_refused(numbers: list[int]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        messages_of(context=numbers)
    assert list(caught.value.fields) == ["context"]


def test_it_becomes_the_messages_before_the_prompt() -> None:
    context = write_context(SAID)
    before = [(said.role, said.content) for said in SAID]
    assert messages_of(context=context) == [*before, ("user", "more")]
    assert messages_of(context=context, system="Be rude") == [("system", "Be rude"), *before[1:], ("user", "more")]


def test_it_counts_for_the_bounds() -> None:
    with pytest.raises(InvalidArgument):
        messages_of(
            BodyRules(ignore_unknown=True, max_bytes=1 << 20, bounds=Bounds(messages=3)), context=write_context(SAID)
        )


async def test_over_the_router(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    (first,), _ = await generate(router, system="Be kind", stream=False)
    told = [("system", "Be kind"), ("user", "hi"), ("assistant", "Hello world")]
    assert [(said.role, said.content) for said in read_context(first["context"])] == told
    (*others, last), _ = await generate(router, prompt="more", context=first["context"])
    assert not any("context" in line for line in others)
    assert [said.content for said in read_context(last["context"])][2:] == ["Hello world", "more", "Hello world"]
    (raw,), _ = await generate(router, raw=True, stream=False)
    assert "context" not in raw
