"""Calls about speech in a router: keys and their limits, errors in the middle, deadlines, compressed forms."""

import gzip
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.requests.unpacking import ENCODING_KEY
from infermesh_router.testing.keyed import Metadata, refusal
from infermesh_router.testing.keys import bearer, write_keys_of
from infermesh_router.testing.router import RunningRouter, StartRouter
from infermesh_router.testing.speech import SEGMENTS, StartSpeech
from infermesh_runtime.errors import Unavailable

LOST = Unavailable("The engine process ended.", reason="ENGINE_RESTARTING")
TEXT = "".join(SEGMENTS).strip()
LIMIT = 12
"""Tokens a minute, so few that none comes back for five seconds."""


def form(**fields: str) -> HttpBody:
    files: Any = {"file": ("a.wav", b"sound"), **{name: (None, value) for name, value in fields.items()}}
    request = httpx.Request("POST", "http://x", files=files)
    return HttpBody(content_type=request.headers["content-type"], data=request.read())


async def answered(call: Any) -> tuple[str, bytes, dict[str, str]]:
    """Content type, body and initial metadata of an answer."""
    messages = [message async for message in call]
    metadata = {key: str(value) for key, value in await call.initial_metadata()}
    return messages[0].content_type, b"".join(message.data for message in messages), metadata


async def native(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    request = pb.TranscribeRequest(**{"model": "ears", "audio": b"sound"} | fields)
    return (await _ended(router.inference.Transcribe(request, metadata=metadata)))[1]


async def transcription(router: RunningRouter, metadata: Metadata = (), **fields: str) -> dict[str, str]:
    body = form(**{"model": "ears"} | fields)
    return (await _ended(router.openai.CreateTranscription(body, metadata=metadata)))[1]


async def speech(router: RunningRouter, metadata: Metadata = (), **fields: str) -> dict[str, str]:
    body = json.dumps({"model": "mouth", "input": "one two", "response_format": "pcm"} | fields).encode()
    return (await _ended(router.openai.CreateSpeech(HttpBody(data=body), metadata=metadata)))[1]


async def _ended(call: Any) -> tuple[list[Any], dict[str, str]]:
    messages = [message async for message in call]
    return messages, {key: str(value) for key, value in await call.initial_metadata()}


Ask = Callable[..., Awaitable[dict[str, str]]]
ASKS: list[Ask] = [native, transcription, speech]


@pytest.fixture
async def keyed(start_speech: StartSpeech, start_router: StartRouter, tmp_path: Path) -> RunningRouter:
    keys: dict[str, dict[str, object]] = {
        "all": {"tokens_per_minute": LIMIT},
        "once": {"requests_per_minute": 1},
        "chat": {"models": ("m",)},
        "gpu": {"devices": ("gpu",)},
    }
    return await start_router(await start_speech(), keys_file=write_keys_of(tmp_path / "keys.json", **keys))


@pytest.mark.parametrize("ask", ASKS)
async def test_keys_decide_who_may_hear_and_speak(keyed: RunningRouter, ask: Ask) -> None:
    assert (await refusal(ask(keyed)))[0].code == grpc.StatusCode.UNAUTHENTICATED.value[0]
    for key, reason in (("chat", "MODEL_NOT_ALLOWED"), ("gpu", "DEVICE_NOT_AVAILABLE")):
        assert (await refusal(ask(keyed, bearer(key))))[0].reason == reason


@pytest.mark.parametrize(("ask", "used"), [(native, 9), (transcription, 9), (speech, 0)])
async def test_tokens_count_for_the_limit_of_a_key(keyed: RunningRouter, ask: Ask, used: int) -> None:
    began_s = time.monotonic()
    first, second = [int((await ask(keyed, bearer("all")))["x-ratelimit-remaining-tokens"]) for _ in range(2)]
    came_back = (time.monotonic() - began_s) * LIMIT / 60
    assert first == LIMIT
    assert LIMIT - used <= second <= LIMIT - used + came_back


@pytest.mark.parametrize("ask", ASKS)
async def test_requests_are_limited(keyed: RunningRouter, ask: Ask) -> None:
    await ask(keyed, bearer("once"))
    error, _ = await refusal(ask(keyed, bearer("once")))
    assert error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


async def test_a_key_lists_its_own_voices(keyed: RunningRouter) -> None:
    for key, voices, models in (("all", ["ada", "bob"], ["ears", "mouth"]), ("chat", [], [])):
        listed = await keyed.openai.ListVoices(openai_pb2.ListVoicesRequest(), metadata=bearer(key))
        assert [voice["id"] for voice in json.loads(listed.data)["voices"]] == voices
        listed = await keyed.openai.ListAudioModels(openai_pb2.ListAudioModelsRequest(), metadata=bearer(key))
        assert [model["id"] for model in json.loads(listed.data)["models"]] == models


async def test_the_answer_says_how_its_stream_moved(start_speech: StartSpeech, start_router: StartRouter) -> None:
    faults = [(2, LOST), (9, None), (2, LOST)]
    workers = [await start_speech(faults=faults) for _ in range(2)]
    router = await start_router(*workers)
    kind, body, headers = await answered(router.openai.CreateTranscription(form(model="ears")))
    found = json.loads(body)
    assert (kind, found["text"], found["usage"]) == ("application/json", TEXT, {"type": "duration", "seconds": 4})
    (move,) = found["infermesh"]["failovers"]
    assert (move["from"], move["reason"]) == (headers["x-infermesh-endpoint"], LOST.reason)
    spoken = json.dumps({"input": "a b c d", "stream_format": "sse", "response_format": "pcm"}).encode()
    _, body, _ = await answered(router.openai.CreateSpeech(HttpBody(data=spoken)))
    *deltas, done = (json.loads(line[6:]) for line in body.decode().split("\n\n") if line)
    assert len(deltas) == 4
    assert len(done["infermesh"]["failovers"]) == 1


async def test_events_end_with_the_error_that_ends_them(start_speech: StartSpeech, start_router: StartRouter) -> None:
    router = await start_router(await start_speech(faults=[(1, LOST)] * 9), failover_wait_s=0, max_failovers=0)
    kind, body, _ = await answered(router.openai.CreateTranscription(form(model="ears", stream="true")))
    delta, failure, done = body.decode().strip().split("\n\n")
    assert kind.startswith("text/event-stream")
    assert json.loads(delta[6:])["delta"] == "One,"
    assert json.loads(failure[6:])["error"]["code"] == LOST.reason.lower()
    assert done == "data: [DONE]"
    spoken = json.dumps({"input": "a b c d", "stream_format": "sse"}).encode()
    _, body, _ = await answered(router.openai.CreateSpeech(HttpBody(data=spoken)))
    assert body.decode().endswith("data: [DONE]\n\n")
    with pytest.raises(grpc.aio.AioRpcError):
        await answered(router.openai.CreateSpeech(HttpBody(data=b'{"input": "a b c d"}')))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answered(router.openai.CreateTranscription(form(model="ears")))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_deadline_ends_the_events_in_time(start_speech: StartSpeech, start_router: StartRouter) -> None:
    router = await start_router(await start_speech(faults=[(2, None)]))
    call = router.openai.CreateTranscription(form(model="ears", stream="true"), timeout=1)
    _, body, _ = await answered(call)
    assert json.loads(body.decode().split("\n\n")[2][6:])["error"]["code"] == "deadline_exceeded"


async def test_a_client_that_leaves_frees_the_endpoint(start_speech: StartSpeech, start_router: StartRouter) -> None:
    router = await start_router(await start_speech(faults=[(1, None)]))
    call = router.openai.CreateTranscription(form(model="ears", stream="true"))
    await call.read()
    assert [each.in_flight for each in await router.endpoints_when(lambda _: True)] == [1]
    call.cancel()
    await router.endpoints_when(lambda listed: not any(each.in_flight for each in listed))


@pytest.mark.parametrize("size", [10, 1 << 20])
async def test_forms_may_be_compressed(start_speech: StartSpeech, start_router: StartRouter, size: int) -> None:
    worker = await start_speech()
    router = await start_router(worker)
    body = form(model="ears", prompt="x" * 10, user="y" * (size % 200_000))
    packed = HttpBody(content_type=body.content_type, data=gzip.compress(body.data))
    call = router.openai.CreateTranscription(packed, metadata=((ENCODING_KEY, "gzip"),))
    _, answer, _ = await answered(call)
    assert json.loads(answer)["text"] == TEXT
    assert (worker.heard[0].audio, worker.heard[0].prompt) == (b"sound", "x" * 10)


async def test_errors_name_the_fields_of_the_form(start_speech: StartSpeech, start_router: StartRouter) -> None:
    router = await start_router(await start_speech())
    error, _ = await refusal(answered(router.openai.CreateTranscription(HttpBody(content_type="text/plain"))))
    assert list(error.fields) == ["file"]
    error, _ = await refusal(answered(router.openai.CreateTranscription(form(model="ears", priority="101"))))
    assert list(error.fields) == ["priority"]
