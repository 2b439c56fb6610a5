"""What large and compressed files take of the memory for bodies, and where they are read."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any, cast

import pytest
from google.api.httpbody_pb2 import HttpBody
from prometheus_client import CollectorRegistry

from infermesh.inference.v1 import inference_pb2
from infermesh_router.access.access import Access
from infermesh_router.access.keys_file import FollowedKeys
from infermesh_router.batches.arriving import FileReader
from infermesh_router.batches.runner import BatchRunner
from infermesh_router.batches.servicer import BatchServicer
from infermesh_router.batches.store.batch_store import BatchStore
from infermesh_router.batches.store.database import Database
from infermesh_router.batches.store.files import Files
from infermesh_router.batches.store.kept import StoreBounds
from infermesh_router.batches.upload import upload_parts
from infermesh_router.metrics.access_metrics import AccessMetrics
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import Sent
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_router.testing.batches import CHAT, create, form, line
from infermesh_router.testing.copies import copies_during
from infermesh_router.testing.router import StartRouter, StartWorker, say_hello
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import InvalidArgument, ResourceExhausted
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.limits.body_budget import (
    ARRIVING_COPIES,
    MIB,
    NO_BUDGET,
    SMALL_BYTES,
    BodyBudget,
    CountedShare,
)

RULES = BodyRules(ignore_unknown=True, max_bytes=1 << 20, bounds=Bounds())


class NotedPool(ParsingPool):
    """Notes what it runs, in this process."""

    def __init__(self) -> None:
        super().__init__(processes=1)
        self.ran: list[str] = []

    async def run(self, function: Any, request: bytes, *arguments: Any, **named: Any) -> Any:
        self.ran.append(function.__name__)
        return function(request, *arguments, **named)


def packed(content: bytes) -> bytes:
    sent = form(content)
    message = HttpBody(content_type=sent.content_type, data=gzip.compress(sent.data))
    return bytes(message.SerializeToString())


async def test_a_compressed_file_is_unpacked_elsewhere_once_there_is_memory_for_it() -> None:
    content, pool = b"x" * 500_000, NotedPool()
    message = packed(content)
    assert len(message) < SMALL_BYTES
    budget = BodyBudget(total_bytes=10 << 20, client_bytes=10 << 20)
    with CountedShare(budget, "me") as share:
        read = await FileReader(pool, RULES).upload(message, Sent(encoding="gzip", share=share))
        assert budget.held_bytes > 3 * len(content)
    assert read == ("asked.jsonl", "batch", content)
    assert pool.ran == ["unpacked_body_size", "upload_parts"]


def test_a_compressed_file_is_in_memory_no_more_often_than_is_counted() -> None:
    content = b"x" * (4 << 20)
    message, rules = packed(content), BodyRules(ignore_unknown=True, max_bytes=8 << 20, bounds=Bounds())
    assert copies_during(len(content), lambda: upload_parts(message, "gzip", rules)) < ARRIVING_COPIES - 0.5


async def test_a_compressed_file_that_does_not_fit_is_not_unpacked() -> None:
    pool, budget = NotedPool(), BodyBudget(total_bytes=1 << 20, client_bytes=1 << 20)
    budget.take("other", 1, refusable=False)  # the first large body always fits
    with CountedShare(budget, "me") as share, pytest.raises(ResourceExhausted, match="request bodies"):
        await FileReader(pool, RULES).upload(packed(b"x" * 500_000), Sent(encoding="gzip", share=share))
    with pytest.raises(InvalidArgument, match="unpacks to more than"):
        await FileReader(pool, RULES).upload(packed(b"x" * (2 << 20)), Sent(encoding="gzip", share=NO_BUDGET))
    assert pool.ran == ["unpacked_body_size", "unpacked_body_size"]


async def test_small_files_are_read_at_once() -> None:
    pool = NotedPool()
    reader = FileReader(pool, RULES)
    assert (await reader.upload(form(b"x").SerializeToString(), Sent()))[2] == b"x"
    lines, problems = await reader.lines(line("a"), CHAT)
    assert ([each.custom_id for each in lines], problems, pool.ran) == (["a"], [], [])


@pytest.mark.parametrize(
    "content",
    [b"".join(line(str(n)) for n in range(300)), line("a", odd=[[]] * 10_000), line("a") + b" " * SMALL_BYTES],
)
async def test_files_that_take_long_are_read_elsewhere(content: bytes) -> None:
    pool = NotedPool()
    lines, _ = await FileReader(pool, RULES).lines(content, CHAT)
    assert lines
    assert pool.ran == ["read_lines"]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b"\xff", "not a valid protobuf message"),
        (
            HttpBody(content_type="multipart/form-data; " + 'a="b"; ' * 200).SerializeToString(),
            "Content-Type must have at most",
        ),
    ],
)
async def test_what_is_no_file_is_refused(message: bytes, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        await FileReader(NotedPool(), RULES).upload(message, Sent())


async def test_the_file_of_a_batch_counts_as_a_body(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    running, finish = asyncio.Event(), asyncio.Event()

    async def script(request: inference_pb2.GenerateRequest, context: RpcContext) -> Any:
        running.set()
        await finish.wait()
        async for event in say_hello(request, context):
            yield event

    database = Database(tmp_path / "b", StoreBounds(max_bytes=1 << 20, max_age_s=1000))
    request = line("a")
    file = Files(database).add("", "f", "batch", request + b" " * (100_000 - len(request)))
    database.close()
    router = await start_router(
        await start_worker(script=script), batches_store=str(tmp_path / "b"), body_memory_bytes=400_000
    )
    large = router.inference.Generate(inference_pb2.GenerateRequest(model="m", text="x" * 250_000))
    await running.wait()
    with pytest.raises(ResourceExhausted, match="request bodies"):
        await create(router, file.id)
    finish.set()
    async for _ in large:
        pass


class NotedContext:
    """A call whose body counts. Notes what counts when its answer begins."""

    def __init__(self, budget: BodyBudget, share: CountedShare) -> None:
        self.body = share
        self.held_bytes = -1
        self._budget = budget

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    async def send_initial_metadata(self, _metadata: object) -> None:
        self.held_bytes = self._budget.held_bytes


async def test_a_batch_that_is_kept_counts_no_more(tmp_path: Path) -> None:
    tasks, pool, nothing = TaskSupervisor(), NotedPool(), cast(Any, None)
    store = BatchStore(tmp_path / "b", StoreBounds(max_bytes=MIB, max_age_s=1000))
    budget = BodyBudget(total_bytes=10 * MIB, client_bytes=10 * MIB)
    access = Access(FollowedKeys(None), AccessMetrics(CollectorRegistry()))
    runner = BatchRunner(store, nothing, access=access, converter=nothing, tasks=tasks, bodies=budget, at_once=1)
    servicer = BatchServicer(store, runner, access=access, pool=pool, rules=RULES)
    file = await store.files(Files.add, "", "f", "batch", b"x" * 100_000)
    body = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    with CountedShare(budget, "me") as share:
        context = NotedContext(budget, share)
        message = HttpBody(data=json.dumps(body).encode()).SerializeToString()
        made = json.loads((await servicer.CreateBatch(message, cast(Any, context))).data)
    assert (made["status"], pool.ran, context.held_bytes) == ("failed", ["read_lines"], 0)
    await tasks.close()
    await store.close()
