"""Streams at different tokens all continue elsewhere when a real worker, front and engine, is killed with SIGKILL."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from tokenizers import Tokenizer

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_worker.testing.processes import WorkerProcess

pytestmark = pytest.mark.timeout(300)

CPU, XPU = "infermesh_worker_cpu", "infermesh_worker_xpu"
MODEL = "smollm2-135m-instruct"
STREAMS = 7
READY_TIMEOUT_S = 240.0
"""torch takes long to import while other processes compute."""
TOKENS = 56
ROUTER: dict[str, Any] = {"stall_timeout_s": 60.0, "first_token_timeout_s": 120.0, "drain_s": 1.0}
"""All processes share two cores, so a silent worker is not necessarily a dead one."""
PROMPTS = [
    "Once upon a time",
    "The capital of Italy is",
    "In the beginning",
    "def main():\n",
    "My favourite colours are",
    "The history of bread begins",
    "Dear Sir or Madam,",
    "A list of animals:",
    "It was a dark night, and",
    "The cat sat on",
]
SCHEMA = {
    "type": "object",
    "properties": {
        "animals": {"type": "array", "items": {"enum": ["cat", "dog", "heron"]}, "minItems": 8, "maxItems": 12},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["animals", "count"],
    "additionalProperties": False,
}


@dataclass
class Stream:
    """A request and what was received for it."""

    request: pb.GenerateRequest
    started: pb.Started | None = None
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finished: pb.Finished | None = None
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, router: RunningRouter) -> None:
        async for event in pb_grpc.InferenceServiceStub(router.channel).Generate(self.request, timeout=240):
            assert self.finished is None
            if event.HasField("started"):
                self.started = event.started
            elif event.HasField("delta"):
                self.text += event.delta.text
                self.token_ids += event.delta.token_ids
            else:
                self.finished = event.finished
            self.grown.set()

    async def reach(self, tokens: int) -> None:
        """Returns when it has this many tokens or has ended."""
        while len(self.token_ids) < tokens and self.finished is None:
            self.grown.clear()
            await self.grown.wait()


def plain(index: int) -> pb.GenerateRequest:
    stop = pb.StopConditions(max_tokens=TOKENS, ignore_eos=True)
    sampling = pb.SamplingParams(temperature=0.8 if index % 2 else 0)
    return pb.GenerateRequest(model=MODEL, text=PROMPTS[index], seed=index, stop=stop, sampling=sampling)


def shaped(index: int) -> pb.GenerateRequest:
    constraint = pb.OutputFormat(json_schema=json.dumps(SCHEMA))
    stop = pb.StopConditions(max_tokens=200)
    return pb.GenerateRequest(model=MODEL, text=PROMPTS[index], seed=index, stop=stop, format=constraint)


REQUESTS = [make(index) for index in range(STREAMS) for make in (plain, shaped)]


@asynccontextmanager
async def worker(module: str, default_model: Path, **settings: object) -> AsyncIterator[WorkerProcess]:
    shared = {"models": default_model.parent, "model": MODEL, "threads": 2}
    process = await WorkerProcess.start(module, **shared, **settings)
    try:
        yield process
    finally:
        await process.stop(signal.SIGKILL)


async def ready(process: WorkerProcess) -> str:
    return str((await process.wait_for("ready", READY_TIMEOUT_S))["listen"])


def kill(process: WorkerProcess) -> None:
    """Kills front and engine process with SIGKILL."""
    for each in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
        os.kill(each.pid, signal.SIGKILL)


async def killed_under_way(
    router: RunningRouter, first: tuple[str, WorkerProcess], second: str
) -> list[tuple[Stream, int]]:
    """Runs all requests on the first worker and kills it; returns each stream with the tokens it had by then."""
    admin = admin_pb2_grpc.AdminServiceStub(router.admin_channel)
    await admin.DrainEndpoint(admin_pb2.DrainEndpointRequest(address=second))
    streams = [Stream(request) for request in REQUESTS]
    async with asyncio.TaskGroup() as group:
        for stream in streams:
            group.create_task(stream.run(router))
            await stream.reach(2)
        await admin.ResumeEndpoint(admin_pb2.ResumeEndpointRequest(address=second))
        await router.endpoints_when(
            lambda listed: all(endpoint.report.state == pb.ENDPOINT_STATE_READY for endpoint in listed)
        )
        kill(first[1])
        tokens = [len(stream.token_ids) if stream.finished is None else 0 for stream in streams]
    return list(zip(streams, tokens, strict=True))


def check_moved(done: list[tuple[Stream, int]], first: str, second: str, tokenizer: Tokenizer) -> None:
    """Checks that every stream is complete and that those of the killed worker report where they went."""
    for stream, tokens in done:
        finished = stream.finished
        assert finished is not None
        assert finished.usage.completion_tokens == len(stream.token_ids)
        if tokens:
            (moved,) = finished.failovers
            assert (moved.from_endpoint, moved.to_endpoint) == (first, second)
            assert moved.reason
        if stream.request.HasField("format"):
            answer = json.loads(stream.text)
            assert set(answer) == {"animals", "count"}
        else:
            assert len(stream.token_ids) == TOKENS
            assert finished.finish_reason == pb.FINISH_REASON_LENGTH
            prompt = tokenizer.encode(stream.request.text).ids
            whole = tokenizer.decode(prompt + stream.token_ids)
            assert whole == tokenizer.decode(prompt) + stream.text
    assert len({tokens for _, tokens in done if tokens}) >= STREAMS


async def test_exact_numerics_give_the_same_stream(default_model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(default_model / "tokenizer.json"))
    settings = {"numerics": "exact", "kv_cache_bytes": 1 << 28}
    async with worker(CPU, default_model, **settings) as one, worker(CPU, default_model, **settings) as two:
        first, second = await asyncio.gather(ready(one), ready(two))
        async with running_router(first, second, **ROUTER) as router:
            whole = [Stream(request) for request in REQUESTS]
            await asyncio.gather(*(stream.run(router) for stream in whole))
            done = await killed_under_way(router, (first, one), second)
            check_moved(done, first, second, tokenizer)
            for (stream, tokens), undisturbed in zip(done, whole, strict=True):
                assert stream.token_ids == undisturbed.token_ids, tokens
                assert stream.text == undisturbed.text
                assert stream.finished is not None
                assert undisturbed.finished is not None
                assert stream.finished.finish_reason == undisturbed.finished.finish_reason


@pytest.mark.parametrize("other", [CPU, pytest.param(XPU, marks=pytest.mark.torch)])
async def test_fast_numerics_give_a_complete_stream(default_model: Path, other: str) -> None:
    """The second worker may be another device. What was delivered stays, and the rest is complete and valid."""
    if other == XPU:
        pytest.importorskip("torch", reason="worker-xpu needs torch: make test-xpu")
        pytest.importorskip(XPU, reason="worker-xpu is not installed: make test-xpu")
    tokenizer = Tokenizer.from_file(str(default_model / "tokenizer.json"))
    settings = {"kv_cache_bytes": 1 << 28}
    device = {"device": "cpu"} if other == XPU else {}
    async with worker(CPU, default_model, **settings) as one, worker(other, default_model, **settings, **device) as two:
        first, second = await asyncio.gather(ready(one), ready(two))
        async with running_router(first, second, **ROUTER) as router:
            check_moved(await killed_under_way(router, (first, one), second), first, second, tokenizer)
