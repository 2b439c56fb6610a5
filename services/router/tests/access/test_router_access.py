"""A router with keys: who is let in over gRPC and OpenAI's API, what limits tell, and who waits for whom."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.admission.admission import Admission
from infermesh_router.admission.pending_call import PendingCall
from infermesh_router.testing.keys import bearer, secret_of, write_keys_of
from infermesh_router.testing.openai import USER
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker, delta, finished, started
from infermesh_runtime.errors import InfermeshError, PermissionDenied, ResourceExhausted, Unauthenticated
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.status import from_rpc_error

Metadata = tuple[tuple[str, str], ...]
StartKeyed = Callable[..., Any]


@pytest.fixture
def keyed(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> StartKeyed:
    """Starts a router whose keys have these names and fields."""

    async def start(worker: dict[str, Any] | None = None, **keys: dict[str, object]) -> RunningRouter:
        path = write_keys_of(tmp_path / "keys.json", **keys)
        return await start_router(await start_worker(**(worker or {})), keys_file=path)

    return start


async def generate(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    """Runs a request to its end; its initial metadata."""
    call = router.inference.Generate(pb.GenerateRequest(**{"model": "m", "text": "hi"} | fields), metadata=metadata)
    async for _ in call:
        pass
    return dict(await call.initial_metadata())


async def chat(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    body = json.dumps({"model": "m", "messages": [USER]} | fields).encode()
    call = router.openai.CreateChatCompletion(HttpBody(data=body), metadata=metadata)
    async for _ in call:
        pass
    return dict(await call.initial_metadata())


async def complete(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    body = json.dumps({"model": "m", "prompt": ["hi", "ho"]} | fields).encode()
    call = router.openai.CreateCompletion(HttpBody(data=body), metadata=metadata)
    async for _ in call:
        pass
    return dict(await call.initial_metadata())


async def embed(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    call = router.inference.Embed(pb.EmbedRequest(**{"model": "m", "texts": ["hi"]} | fields), metadata=metadata)
    await call
    return dict(await call.initial_metadata())


async def infer(router: RunningRouter, metadata: Metadata = (), **fields: Any) -> dict[str, str]:
    await router.inference.Infer(pb.InferRequest(**{"model": "m"} | fields), metadata=metadata)
    return {}


async def metrics(router: RunningRouter, metadata: Metadata = ()) -> dict[str, str]:
    await router.openai.GetMetrics(openai_pb2.GetMetricsRequest(), metadata=metadata)
    return {}


async def models(router: RunningRouter, metadata: Metadata = ()) -> dict[str, str]:
    await router.openai.ListModels(openai_pb2.ListModelsRequest(), metadata=metadata)
    return {}


async def model(router: RunningRouter, metadata: Metadata = ()) -> dict[str, str]:
    await router.openai.GetModel(openai_pb2.GetModelRequest(model="m"), metadata=metadata)
    return {}


ASKS = [generate, chat, complete, embed]


async def refusal(asking: Any) -> tuple[InfermeshError, dict[str, str]]:
    """The error of a call that must fail, and its trailing metadata."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asking
    trailing = {key: value for key, value in caught.value.trailing_metadata() or () if isinstance(value, str)}
    return from_rpc_error(caught.value), trailing


async def is_refused(asking: Any) -> bool:
    """Whether a call is refused for its key. Raises for another error."""
    try:
        await asking
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return True
        raise
    return False


@pytest.mark.parametrize("ask", [*ASKS, infer, metrics, models, model])
async def test_without_a_known_key_nobody_is_let_in(keyed: StartKeyed, ask: Any) -> None:
    router = await keyed(a={})
    for metadata, reason in [
        ((), "MISSING_API_KEY"),
        ((("authorization", "Bearer sk-anything"),), "INVALID_API_KEY"),
        ((("x-api-key", "sk-anything"),), "INVALID_API_KEY"),
    ]:
        error, trailing = await refusal(ask(router, metadata))
        assert (type(error), error.reason) == (Unauthenticated, reason)
        assert trailing["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("ask", [*ASKS, metrics, models, model])
@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
async def test_a_key_is_accepted_in_each_header(keyed: StartKeyed, ask: Any, header: str) -> None:
    router = await keyed(a={})
    await ask(router, ((header, f"{'Bearer ' if header == 'authorization' else ''}{secret_of('a')}"),))


async def test_health_stays_open(keyed: StartKeyed) -> None:
    router = await keyed(a={})
    await router.openai.GetHealth(openai_pb2.GetHealthRequest())
    assert (await router.inference.Health(pb.HealthRequest())).report.models


async def test_without_keys_everybody_is_let_in(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    for metadata in ((), (("authorization", "Bearer any"),)):
        headers = await chat(router, metadata, priority=-5)
        assert not [name for name in headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"model": "n"}, "MODEL_NOT_ALLOWED"), ({"device": "cuda"}, "DEVICE_NOT_ALLOWED")],
)
async def test_what_a_key_does_not_allow(keyed: StartKeyed, ask: Any, fields: dict[str, Any], reason: str) -> None:
    router = await keyed(worker={"models": ("m", "n")}, a={"models": ("m",), "devices": ("cpu",)})
    error, _ = await refusal(ask(router, bearer("a"), **fields))
    assert (type(error), error.reason) == (PermissionDenied, reason)
    await ask(router, bearer("a"))


async def test_priority_is_refused_in_both_directions_of_its_sign(keyed: StartKeyed) -> None:
    router = await keyed(a={"max_priority": 2})
    for asking in (generate(router, bearer("a"), priority=3), chat(router, bearer("a"), priority=-3)):
        assert (await refusal(asking))[0].reason == "PRIORITY_NOT_ALLOWED"
    await generate(router, bearer("a"), priority=2)
    await chat(router, bearer("a"), priority=-2)


async def test_a_key_lists_its_own_models(keyed: StartKeyed) -> None:
    router = await keyed(worker={"models": ("m", "n")}, a={"models": ("n",)}, b={})
    listed = []
    for name in "ab":
        answer = await router.openai.ListModels(openai_pb2.ListModelsRequest(), metadata=bearer(name))
        listed.append([each["id"] for each in json.loads(answer.data)["data"]])
    assert listed == [["n"], ["m", "n"]]
    with pytest.raises(grpc.aio.AioRpcError, match="available: n"):
        await router.openai.GetModel(openai_pb2.GetModelRequest(model="m"), metadata=bearer("a"))


@pytest.mark.parametrize("ask", ASKS)
async def test_requests_over_the_limit(keyed: StartKeyed, ask: Any) -> None:
    router = await keyed(a={"requests_per_minute": 2}, b={"requests_per_minute": 2})
    headers = await ask(router, bearer("a"))
    assert headers["x-ratelimit-limit-requests"] == "2"
    assert headers["x-ratelimit-remaining-requests"] == "1"
    assert "x-ratelimit-limit-tokens" not in headers
    await ask(router, bearer("a"))
    error, trailing = await refusal(ask(router, bearer("a")))
    assert (type(error), error.reason) == (ResourceExhausted, "RATE_LIMIT_EXCEEDED")
    assert 20 < int(trailing["retry-after"]) <= 30
    assert trailing["x-ratelimit-remaining-requests"] == "0"
    await ask(router, bearer("b"))


@pytest.mark.parametrize(("ask", "used"), [(generate, 5), (chat, 5), (complete, 10), (embed, 1)])
async def test_tokens_are_what_was_used_in_the_end(keyed: StartKeyed, ask: Any, used: int) -> None:
    router = await keyed(a={"tokens_per_minute": 12})  # so few that none comes back for five seconds
    await ask(router, bearer("a"))
    headers = await generate(router, bearer("a"))
    assert headers["x-ratelimit-limit-tokens"] == "12"
    assert headers["x-ratelimit-remaining-tokens"] == str(12 - used)


async def test_what_failed_used_no_tokens(keyed: StartKeyed) -> None:
    router = await keyed(a={"tokens_per_minute": 1000})
    await refusal(chat(router, bearer("a"), model="none", messages=[{"role": "user", "content": "x" * 4000}]))
    assert (await generate(router, bearer("a")))["x-ratelimit-remaining-tokens"] == "1000"


async def test_a_prompt_is_reserved_before_it_runs(keyed: StartKeyed) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        begun.set()
        await go_on.wait()
        yield started(request.model)
        yield finished()

    router = await keyed(worker={"script": wait}, a={"tokens_per_minute": 1000})
    first = asyncio.create_task(generate(router, bearer("a"), text="x" * 3600))
    await begun.wait()
    error, trailing = await refusal(generate(router, bearer("a"), text="x" * 3600))
    assert error.reason == "RATE_LIMIT_EXCEEDED"
    assert int(trailing["x-ratelimit-remaining-tokens"]) in range(100, 900)
    go_on.set()
    await first
    await generate(router, bearer("a"), text="x" * 3600)


async def test_a_cancelled_stream_has_used_what_came(keyed: StartKeyed) -> None:
    async def endless(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        for _ in range(600):
            yield delta("x")
        await asyncio.Event().wait()

    router = await keyed(worker={"script": endless}, a={"tokens_per_minute": 1000})
    call = router.inference.Generate(pb.GenerateRequest(model="m", text="hi"), metadata=bearer("a"))
    for _ in range(601):
        await call.read()
    call.cancel()
    while True:  # the router learns of the cancellation a moment later
        second = router.inference.Generate(pb.GenerateRequest(model="m", text="hi"), metadata=bearer("a"))
        left = int(dict(await second.initial_metadata())["x-ratelimit-remaining-tokens"])
        second.cancel()
        if left < 1000:
            break
    assert left < 1000 - 600 + 200  # some come back meanwhile


@pytest.mark.parametrize("ask", [generate, chat])
async def test_turns_go_by_key_and_are_divided_by_user(
    keyed: StartKeyed, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []
    admit = Admission.admit

    async def spy(self: Admission, pending: PendingCall, *others: Any, **options: Any) -> Any:
        seen.append((pending.call.wanted.client, pending.call.wanted.member))
        return await admit(self, pending, *others, **options)

    monkeypatch.setattr(Admission, "admit", spy)
    router = await keyed(a={}, b={})
    user = "client_id" if ask is generate else "user"
    for name, value in [("a", "u1"), ("a", "u2"), ("b", "u1"), ("b", "")]:
        await ask(router, bearer(name), **{user: value} if value else {})
    assert seen == [("key a", "u1"), ("key a", "u2"), ("key b", "u1"), ("key b", "")]


async def test_refusals_are_counted(keyed: StartKeyed) -> None:
    router = await keyed(a={"requests_per_minute": 1})
    await refusal(chat(router))
    await refusal(complete(router, bearer("a"), priority=-1))
    await refusal(chat(router, bearer("a")))
    text = (await router.openai.GetMetrics(openai_pb2.GetMetricsRequest(), metadata=bearer("a"))).data.decode()
    for reason in ("missing_api_key", "priority_not_allowed", "rate_limit_exceeded"):
        assert f'infermesh:router_refused_total{{reason="{reason}"}} 1.0' in text


async def test_a_revoked_key_is_refused_and_a_new_one_accepted(keyed: StartKeyed, tmp_path: Path) -> None:
    router = await keyed(a={})
    await generate(router, bearer("a"))
    write_keys_of(tmp_path / "keys.json", b={})
    async with asyncio.timeout(20):
        while await is_refused(generate(router, bearer("b"))):
            pass
    assert (await refusal(generate(router, bearer("a"))))[0].reason == "INVALID_API_KEY"


async def test_endpoints_never_see_a_key(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> None:
    worker = await start_worker()
    router = await start_router(worker, keys_file=write_keys_of(tmp_path / "keys.json", a={}))
    await chat(router, bearer("a"))
    await generate(router, (("x-api-key", secret_of("a")),))
    assert len(worker.metadata) == 2
    assert secret_of("a") not in str(worker.metadata) + str(worker.requests)


async def test_aliases_are_allowed_by_their_own_name(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    config = tmp_path / "mesh.yaml"
    config.write_text("aliases: {fast: m}\n")
    keys = write_keys_of(tmp_path / "keys.json", a={"models": ("fast",)})
    router = await start_router(await start_worker(), keys_file=keys, mesh_config=str(config))
    await chat(router, bearer("a"), model="fast")
    assert (await refusal(chat(router, bearer("a"), model="m")))[0].reason == "MODEL_NOT_ALLOWED"
