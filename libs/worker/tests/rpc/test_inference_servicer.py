"""A request is given its place before anything is made of its prompt."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner
from infermesh_runtime.errors import ResourceExhausted
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.rpc.inference_servicer import InferenceServicer
from infermesh_worker.rpc.prompts import prompt
from infermesh_worker.testing.simulated import SimulatedSettings, opened_model

INFO = SimulatedRunner(SimulatedOptions(vocab_size=259, context_length=1 << 20)).info
BIG = pb.GenerateRequest(text="x" * 2 * prompt.THREAD_FROM_BYTES)


class Client:
    """An engine's client that takes requests and never answers."""

    def __init__(self) -> None:
        self.opened = asyncio.Semaphore(0)

    def require_ready(self) -> RunnerInfo:
        return INFO

    def new_request_id(self) -> str:
        return "1"

    @contextmanager
    def open(self, _request: object) -> Iterator["Client"]:
        self.opened.release()
        yield self

    async def read(self) -> object:
        return await asyncio.Event().wait()


class Model:
    """Stands for the hosted model, for the worker and for its models at once: it counts the places taken."""

    def __init__(self) -> None:
        self.client = Client()
        self.opened = opened_model(SimulatedSettings.model_validate({}))
        self.models = self
        self.sequences = 0

    @contextmanager
    def use(self, _name: str) -> Iterator["Model"]:
        yield self

    @contextmanager
    def place(self, _hosted: object, n: int) -> Iterator[None]:
        QueueBound(max_running=1, max_waiting=1).check(self.sequences, "m", n)
        self.sequences += n
        yield


async def test_a_request_without_a_place_is_not_tokenised(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenised: list[object] = []
    read_prompt = prompt.read_prompt

    async def count(request: pb.GenerateRequest, *args: Any, **options: Any) -> prompt.Prompt:
        tokenised.append(request)
        return await read_prompt(request, *args, **options)

    monkeypatch.setattr(prompt, "read_prompt", count)
    model: Any = Model()
    servicer = InferenceServicer(model, lambda _status: pb.HealthReport())
    context: Any = None  # nothing is written before the first token
    tasks = [asyncio.create_task(servicer.Generate(BIG, context)) for _ in range(10)]
    async with asyncio.timeout(20):
        for _ in range(2):  # they hold their places while a thread tokenises
            await model.client.opened.acquire()
    done, held = await asyncio.wait(tasks, timeout=0)
    assert (len(tokenised), len(held)) == (2, 2)
    assert {type(task.exception()) for task in done} == {ResourceExhausted}
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
