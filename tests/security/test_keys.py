"""API keys through the real Envoy: each refusal has OpenAI's shape and status, over REST and over gRPC."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import openai
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess
from infermesh_router.testing.keys import bearer, secret_of, write_keys_of
from infermesh_router.testing.router import ScriptedWorker, running_router

FREE = Address("127.0.0.1", 0)
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def envoy(tmp_path: Path) -> AsyncIterator[EnvoyProcess]:
    """A worker, a router with keys, and Envoy."""
    worker = ScriptedWorker(models=("m", "n"))
    await worker.start()
    keys = write_keys_of(
        tmp_path / "keys.json",
        free={},
        bound={"models": ("m",), "devices": ("cpu",)},
        few={"requests_per_minute": 1, "tokens_per_minute": 12},
    )
    async with running_router(worker.address, keys_file=keys) as router:
        with EnvoyProcess(EnvoyOptions(http=FREE, grpc=FREE, router=Address.parse(router.address)), tmp_path) as envoy:
            yield envoy
    await worker.stop()


@pytest.fixture
async def http(envoy: EnvoyProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=envoy.http, timeout=20) as client:
        yield client


def client(envoy: EnvoyProcess, name: str) -> openai.AsyncOpenAI:
    """OpenAI's own client with the key of this name."""
    return openai.AsyncOpenAI(base_url=f"{envoy.http}/v1", api_key=secret_of(name), max_retries=0)


async def test_the_unmodified_client(envoy: EnvoyProcess) -> None:
    async with client(envoy, "free") as known, client(envoy, "nobody") as unknown, client(envoy, "bound") as bound:
        answer = await known.chat.completions.create(model="n", messages=[{"role": "user", "content": "hi"}])
        assert answer.choices[0].message.content == "Hello world"
        assert [model.id async for model in known.models.list()] == ["m", "n"]
        assert [model.id async for model in bound.models.list()] == ["m"]
        with pytest.raises(openai.AuthenticationError) as refused:
            await unknown.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert refused.value.code == "invalid_api_key"
        with pytest.raises(openai.PermissionDeniedError) as forbidden:
            await bound.chat.completions.create(model="n", messages=[{"role": "user", "content": "hi"}])
        assert (forbidden.value.code, forbidden.value.param) == ("model_not_allowed", "model")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("headers", "fields", "answer"),
    [
        ({}, {}, (401, "missing_api_key")),
        ({"authorization": "Bearer sk-no"}, {}, (401, "invalid_api_key")),
        ({"x-api-key": "sk-no"}, {}, (401, "invalid_api_key")),
        ({"api-key": secret_of("bound")}, {"model": "n"}, (403, "model_not_allowed")),
        ({"x-api-key": secret_of("bound")}, {"device": "gpu"}, (403, "device_not_allowed")),
        ({"x-api-key": secret_of("bound")}, {"priority": -1}, (403, "priority_not_allowed")),
    ],
)
async def test_refusals(
    http: httpx.AsyncClient, stream: bool, headers: dict[str, str], fields: dict[str, object], answer: tuple[int, str]
) -> None:
    status, code = answer
    response = await http.post("/v1/chat/completions", json={**CHAT, **fields, "stream": stream}, headers=headers)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["param"] == (next(iter(fields)) if fields else None)
    assert response.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


async def test_a_refused_body_is_not_read(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m", "/metrics"])
async def test_what_else_needs_a_key(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 401
    assert (await http.get(path, headers={"x-api-key": secret_of("free")})).status_code == 200
    assert (await http.get("/health")).status_code == 200


async def test_limits_are_told_in_openais_headers(http: httpx.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {secret_of('few')}"}
    first = await http.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-requests"] == "1"
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert int(first.headers["x-ratelimit-remaining-tokens"]) <= 12
    second = await http.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert second.status_code == 429
    assert second.json()["error"]["type"] == "rate_limit_error"
    assert second.json()["error"]["code"] == "rate_limit_exceeded"
    assert 50 < int(second.headers["retry-after"]) <= 60
    assert second.headers["x-ratelimit-remaining-tokens"] == "7"
    assert second.headers["x-ratelimit-reset-requests"].endswith("s")


async def test_over_grpc(envoy: EnvoyProcess) -> None:
    async with grpc.aio.insecure_channel(envoy.grpc) as channel:
        stub = InferenceServiceStub(channel)
        request = pb.GenerateRequest(model="n", text="hi")
        assert [event async for event in stub.Generate(request, metadata=bearer("free"))]
        for metadata, code in [((), "UNAUTHENTICATED"), (bearer("bound"), "PERMISSION_DENIED")]:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Generate(request, metadata=metadata).read()
            assert refused.value.code().name == code


async def test_nothing_of_a_key_is_logged(
    http: httpx.AsyncClient, envoy: EnvoyProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for secret in (secret_of("free"), "sk-unknown-to-all"):
        await http.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {secret}"})
        told = caplog.text + json.dumps([vars(record) for record in caplog.records], default=str) + envoy.log()
        assert secret not in told
