"""Lists of models in Ollama's shape, and how long models stay loaded."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.ollama.v1 import ollama_pb2
from infermesh_router.ollama.listing.models import list_running, list_tags, show_model
from infermesh_router.testing.dialects.ollama import call_unary, chat, generate
from infermesh_router.testing.keys import bearer, write_keys_of
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker
from infermesh_runtime.errors import (
    FailedPrecondition,
    InvalidArgument,
    ModelNotFound,
    PermissionDenied,
    Unauthenticated,
    Unimplemented,
)
from infermesh_runtime.rpc.context import RpcContext

READY = pb.ENDPOINT_STATE_READY
REPORT = pb.HealthReport(
    state=READY,
    models=[pb.ModelStatus(name="m", state=READY, context_length=99, memory_bytes=8, size_bytes=5, keep_alive_s=60)],
    available=[
        pb.AvailableModel(
            name="m",
            size_bytes=5,
            context_length=99,
            answer_style=pb.AnswerStyle(tool_format="hermes", reasoning="think"),
            defaults=pb.GenerationDefaults(sampling=pb.SamplingParams(top_k=20, repetition_penalty=1.5)),
        ),
        pb.AvailableModel(name="x:7b", size_bytes=6),
    ],
)


class Worker(LoadingWorker):
    """A worker that tells tokens, as the router asks it once it has loaded a model."""

    async def Tokenize(self, request: pb.TokenizeRequest, context: RpcContext) -> pb.TokenizeResponse:
        return pb.TokenizeResponse(model=request.model)


def test_tags() -> None:
    tags = list_tags(REPORT, {})["models"]
    assert [(tag["name"], tag["model"], tag["size"]) for tag in tags] == [
        ("m:latest", "m:latest", 5),
        ("x:7b", "x:7b", 6),
    ]
    assert len({tag["digest"] for tag in tags}) == 2
    assert tags[0]["modified_at"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("name", ["m", "m:latest"])
def test_a_model_is_shown(name: str) -> None:
    shown = show_model(REPORT, name, {})
    assert shown["capabilities"] == ["completion", "tools", "thinking"]
    assert shown["parameters"] == "top_k 20\nrepeat_penalty 1.5"
    assert shown["modelfile"].endswith("FROM m\nPARAMETER top_k 20\nPARAMETER repeat_penalty 1.5")
    assert shown["model_info"]["infermesh.context_length"] == 99
    with pytest.raises(ModelNotFound):
        show_model(REPORT, "x", {})


@pytest.mark.parametrize(
    ("fields", "capabilities"),
    [
        ({}, ["completion", "tools"]),  # not known
        ({"has_chat_template": True}, ["completion", "tools"]),
        ({"has_chat_template": False}, ["completion"]),
        ({"answer_style": pb.AnswerStyle()}, ["completion"]),
        ({"answer_style": pb.AnswerStyle(reasoning="think")}, ["completion", "thinking"]),
    ],
)
def test_what_a_model_can_do(fields: dict[str, Any], capabilities: list[str]) -> None:
    report = pb.HealthReport(state=READY, available=[pb.AvailableModel(name="m", **fields)])
    assert show_model(report, "m", {})["capabilities"] == capabilities


def expiry(**fields: Any) -> timedelta:
    report = pb.HealthReport()
    report.CopyFrom(REPORT)
    for name, value in fields.items():
        if name == "last_used_at":
            report.models[0].last_used_at.FromDatetime(value)
        else:
            setattr(report.models[0], name, value)
    (model,) = list_running(report, aliases=(), on_accelerator=lambda _model: False)["models"]
    return datetime.fromisoformat(model["expires_at"]) - datetime.now(UTC)


def test_until_when_a_model_stays() -> None:
    second, used = timedelta(seconds=1), datetime.now(UTC) - timedelta(seconds=30)
    assert abs(expiry() - timedelta(seconds=60)) < second
    assert abs(expiry(last_used_at=used) - timedelta(seconds=30)) < second
    assert abs(expiry(last_used_at=used, sequences=1) - timedelta(seconds=60)) < second
    for forever in ({"pinned": True}, {"keep_alive_s": 0.0}, {"keep_alive_s": 1e30}):
        assert expiry(**forever) > timedelta(days=36000)


def test_running_models_tell_where_they_are() -> None:
    for gpu_models, vram in (("m", 8), ("n", 0)):
        (model,) = list_running(REPORT, aliases=(), on_accelerator=gpu_models.__eq__)["models"]
        assert (model["name"], model["size"], model["size_vram"], model["context_length"]) == ("m:latest", 8, vram, 99)
    assert list_running(REPORT, aliases=("m",), on_accelerator=lambda _model: False) == {"models": []}


async def start(start_router: StartRouter, worker: Worker, **settings: Any) -> RunningRouter:
    await worker.start()
    return await start_router(worker, **settings)


async def until_told(router: RunningRouter, worker: Worker, keep_alive_s: float) -> None:
    """Waits until the worker reports this keep-alive time of "m"."""

    def tells(endpoints: Any) -> bool:
        return any(
            model.name == "m" and model.keep_alive_s == pytest.approx(keep_alive_s)
            for endpoint in endpoints
            for model in endpoint.report.models
        )

    await router.endpoints_when(tells)


@pytest.mark.parametrize(("keep_alive", "told_s"), [("5m", 300), (-1, 0), ("10m", 600), (0, 0.001)])
async def test_keep_alive_reaches_the_endpoint_after_the_answer(
    start_router: StartRouter, keep_alive: object, told_s: float
) -> None:
    worker = Worker(models=("m",), retention={"m": admin_pb2.LoadModelRequest(model="m", keep_alive_s=7)})
    router = await start(start_router, worker)
    lines, headers = await chat(router, keep_alive=keep_alive)
    assert lines[-1]["done"]
    assert "x-infermesh-ignored-fields" not in headers
    await until_told(router, worker, told_s)
    await chat(router, keep_alive=keep_alive)  # it stays so long already
    await chat(router)
    assert [load.keep_alive_s for load in worker.loads] == [pytest.approx(told_s)]
    await worker.stop()


async def test_keep_alive_counts_after_a_client_that_leaves(start_router: StartRouter) -> None:
    hanging = asyncio.Event()

    async def hang(request: pb.GenerateRequest, _context: RpcContext) -> Any:
        yield pb.GenerateResponse(started=pb.Started(model=request.model))
        hanging.set()
        await asyncio.Event().wait()

    worker = Worker(models=("m",), script=hang)
    router = await start(start_router, worker)
    asking = asyncio.create_task(chat(router, keep_alive=9))
    await hanging.wait()
    asking.cancel()
    await until_told(router, worker, 9)
    await worker.stop()


async def test_a_model_is_loaded_and_unloaded_without_a_prompt(start_router: StartRouter) -> None:
    worker = Worker()
    router = await start(start_router, worker)
    (answer,), _ = await generate(router, prompt="")
    assert (answer["done_reason"], answer["response"], worker.models) == ("load", "", ("m",))
    (answer,), _ = await chat(router, messages=[], keep_alive="5m")
    assert (answer["done_reason"], answer["message"]["content"]) == ("load", "")
    assert worker.loads[-1] == admin_pb2.LoadModelRequest(model="m", keep_alive_s=300)
    (answer,), _ = await chat(router, messages=[], keep_alive=0)
    assert answer["done_reason"] == "unload"
    assert worker.loads[-1].keep_alive_s == pytest.approx(0.001)  # a worker unloads it then, when nobody uses it
    for keep_alive in (0, "5m"):
        with pytest.raises(ModelNotFound):
            await generate(router, model="nobody", prompt="", keep_alive=keep_alive)
    await worker.stop()


async def test_pinned_models_stay(start_router: StartRouter) -> None:
    worker = Worker(models=("m",), retention={"m": admin_pb2.LoadModelRequest(model="m", pinned=True)})
    router = await start(start_router, worker)
    with pytest.raises(FailedPrecondition, match="is pinned"):
        await generate(router, prompt="", keep_alive=0)
    _, headers = await chat(router, keep_alive=0)
    assert headers["x-infermesh-ignored-fields"] == "keep_alive"
    assert worker.loads == []
    await worker.stop()


async def test_with_api_keys_operators_alone_say_what_stays(start_router: StartRouter, tmp_path: Path) -> None:
    worker = Worker(models=("m",))
    keys = write_keys_of(tmp_path / "keys.json", a={"models": ("m",)})
    router = await start(start_router, worker, keys_file=keys)
    _, headers = await chat(router, bearer("a"), keep_alive=0)
    assert headers["x-infermesh-ignored-fields"] == "keep_alive"
    with pytest.raises(PermissionDenied, match="infermesh models unload"):
        await generate(router, bearer("a"), prompt="", keep_alive=0)
    with pytest.raises(PermissionDenied):
        await generate(router, bearer("a"), model="n", prompt="")
    for asking in (chat(router), call_unary(router, "ListModels", ollama_pb2.ListModelsRequest())):
        with pytest.raises(Unauthenticated):
            await asking
    tags = await call_unary(router, "ListModels", ollama_pb2.ListModelsRequest(), bearer("a"))
    assert [tag["name"] for tag in tags["models"]] == ["m:latest"]
    assert worker.loads == []
    await worker.stop()


async def test_bodies_that_name_a_model(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())

    async def show(raw: bytes) -> Any:
        return await call_unary(router, "ShowModel", HttpBody(data=raw))

    for body in ({"model": "m"}, {"name": "m:latest", "verbose": True}):
        assert (await show(json.dumps(body).encode()))["model_info"]["general.basename"] == "m"
    for raw in (b"", b"{}", b'{"model": ""}', b"[]", b'{"model": "' + b"a" * 100_000 + b'"}', b"{" * 100_000):
        with pytest.raises((InvalidArgument, ModelNotFound)):
            await show(raw)
    running = await call_unary(router, "ListRunning", ollama_pb2.ListRunningRequest())
    assert [model["name"] for model in running["models"]] == ["m:latest"]
    for name, request in [("PushModel", HttpBody()), ("CreateBlob", ollama_pb2.CreateBlobRequest(digest="d"))]:
        with pytest.raises(Unimplemented):
            await call_unary(router, name, request)
