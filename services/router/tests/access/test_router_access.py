"""A router with keys: who is let in over gRPC and OpenAI's API, and who waits for whom."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.admission.admission import Admission
from infermesh_router.admission.pending_call import PendingCall
from infermesh_router.testing.keyed import (
    ASKS,
    StartKeyed,
    chat,
    complete,
    generate,
    infer,
    is_refused,
    metrics,
    model,
    models,
    refusal,
)
from infermesh_router.testing.keys import bearer, secret_of, write_keys_of
from infermesh_router.testing.router import StartRouter, StartWorker
from infermesh_runtime.errors import PermissionDenied, Unauthenticated


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
