"""A batch runs the requests of a file, and makes files of the answers and errors."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2
from infermesh.openai.v1 import batches_pb2 as pb
from infermesh_router.testing.batches import answers, call, content, create, ended, form, line, upload, when
from infermesh_router.testing.keys import bearer, write_keys_of
from infermesh_router.testing.router import (
    RunningRouter,
    StartRouter,
    StartWorker,
    finished,
    running_router,
    say_hello,
    started,
)
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from infermesh_runtime.rpc.context import RpcContext

Events = AsyncIterator[inference_pb2.GenerateResponse]


async def new_router(start_worker: StartWorker, start_router: StartRouter, path: Path, **options: Any) -> RunningRouter:
    return await start_router(await start_worker(**options), batches_store=str(path / "batches.sqlite"))


@pytest.fixture
async def router(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> RunningRouter:
    return await new_router(start_worker, start_router, tmp_path)


async def test_a_file_is_kept_and_read_back(router: RunningRouter) -> None:
    text = line("a") + "é\r\n--x\n".encode()
    made = await call(router, "CreateFile", form(text, name="q.jsonl"))
    assert (made["object"], made["filename"], made["purpose"], made["bytes"]) == ("file", "q.jsonl", "batch", len(text))
    assert await call(router, "GetFile", pb.GetFileRequest(file_id=made["id"])) == made
    assert await content(router, made["id"]) == text
    (listed,) = (await call(router, "ListFiles", pb.ListFilesRequest()))["data"]
    assert listed == made
    await call(router, "DeleteFile", pb.DeleteFileRequest(file_id=made["id"]))
    with pytest.raises(NotFound):
        await content(router, made["id"])


async def test_large_files_come_in_pieces(router: RunningRouter) -> None:
    text = bytes(range(32, 127)) * 25_000
    assert await content(router, await upload(router, [text])) == text


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (form(b"x", purpose="assistants"), "purpose"),
        (form(b""), "file"),
        (HttpBody(content_type="application/json", data=b"{}"), "file"),
        (HttpBody(content_type="multipart/form-data", data=b"--b--"), "file"),
        (HttpBody(content_type="multipart/form-data; boundary=b", data=b"--b\r\n\r\n\r\n" * 101 + b"--b--"), "file"),
        (HttpBody(content_type="multipart/form-data; boundary=b", data=b"--b\r\n\r\nx\r\n--b--"), "purpose"),
    ],
)
async def test_what_is_not_a_file_of_requests_is_refused(router: RunningRouter, sent: HttpBody, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await call(router, "CreateFile", sent)
    assert list(caught.value.fields) == [field]


@pytest.mark.parametrize("data", [b"nothing", b"--b\r\nodd", form(b"x").data[:-9], b""])
async def test_a_form_that_cannot_be_read_is_refused(router: RunningRouter, data: bytes) -> None:
    boundary = "x-y-z" if b"x-y-z" in data else "b"
    with pytest.raises(InvalidArgument, match=r"^The form "):
        await call(router, "CreateFile", HttpBody(content_type=f"multipart/form-data; boundary={boundary}", data=data))


async def test_a_batch_is_answered(router: RunningRouter) -> None:
    lines = [line("a"), line("b", stream=True), line("odd", temperature=9), line("gone", model="nobody"), b"\n"]
    file_id = await upload(router, lines)
    made = await create(router, file_id, metadata={"for": "me"}, output_expires_after={"seconds": 3600})
    assert (made["object"], made["input_file_id"], made["metadata"]) == ("batch", file_id, {"for": "me"})
    batch = await ended(router, made["id"])
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 4, "completed": 2, "failed": 2})
    assert batch["completed_at"] >= batch["created_at"]
    good, bad = await answers(router, batch["output_file_id"]), await answers(router, batch["error_file_id"])
    assert {name: told["response"]["status_code"] for name, told in (good | bad).items()} == {
        "a": 200,
        "b": 200,
        "odd": 400,
        "gone": 404,
    }
    assert good["a"]["response"]["body"]["choices"][0]["message"]["content"] == "Hello world"
    assert bad["odd"]["response"]["body"]["error"]["param"] == "temperature"
    output = await call(router, "GetFile", pb.GetFileRequest(file_id=batch["output_file_id"]))
    assert (output["purpose"], output["bytes"]) == ("batch_output", len(await content(router, output["id"])))


async def test_requests_have_the_lowest_priority(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    worker = await start_worker()
    router = await start_router(worker, batches_store=str(tmp_path / "b"))
    await ended(router, (await create(router, await upload(router, [line("a", priority=50)])))["id"])
    assert [request.priority for request in worker.requests] == [-100]


async def test_a_file_that_cannot_be_run_fails_at_once(router: RunningRouter) -> None:
    lines = [line("a"), line("a"), line("b", url="/v1/completions"), b"{\n", line(""), line("c", seed=1 << 70)]
    batch = await create(router, await upload(router, lines))
    assert (batch["status"], batch["request_counts"]["total"]) == ("failed", 0)
    told = {problem["line"]: problem["code"] for problem in batch["errors"]["data"]}
    assert told == {
        2: "duplicate_custom_id",
        3: "mismatched_url",
        4: "invalid_request",
        5: "invalid_request",
        6: "invalid_request",
    }


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ],
)
async def test_bodies_are_checked(router: RunningRouter, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await create(router, await upload(router, [line("a")]), **fields)
    assert list(caught.value.fields) == [field]
    with pytest.raises(NotFound):
        await create(router, "file-unknown")


def has_answers(batch: dict[str, Any]) -> bool:
    return bool(batch["request_counts"]["completed"])


class Gate:
    """Answers "fast" at once, and the others when it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = asyncio.Event()
        self.most = self.now = 0

    async def script(self, request: inference_pb2.GenerateRequest, context: RpcContext) -> Events:
        if request.chat.messages[0].content != "fast":
            self.now += 1
            self.most = max(self.most, self.now)
            self.waiting.set()
            await self.open.wait()
            self.now -= 1
        async for event in say_hello(request, context):
            yield event


async def test_a_cancelled_batch_keeps_what_was_answered(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    gate = Gate()
    router = await new_router(start_worker, start_router, tmp_path, script=gate.script)
    made = await create(router, await upload(router, [line("fast"), line("slow")]))
    await when(router, made["id"], has_answers)
    await gate.waiting.wait()
    batch = await call(router, "CancelBatch", pb.CancelBatchRequest(batch_id=made["id"]))
    assert (batch["status"], batch["request_counts"]) == ("cancelled", {"total": 2, "completed": 1, "failed": 1})
    assert list(await answers(router, batch["output_file_id"])) == ["fast"]
    errors = await answers(router, batch["error_file_id"])
    assert errors["slow"]["error"]["code"] == "batch_cancelled"
    again = await call(router, "CancelBatch", pb.CancelBatchRequest(batch_id=made["id"]))
    assert again == batch


async def test_a_batch_goes_on_after_a_restart(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    gate = Gate()
    worker = await start_worker(script=gate.script)
    store = str(tmp_path / "batches.sqlite")
    async with running_router(worker.address, batches_store=store, drain_s=0.0) as first:
        made = await create(first, await upload(first, [line("fast"), line("slow")]))
        await when(first, made["id"], has_answers)
        await gate.waiting.wait()
    gate.open.set()
    router = await start_router(worker, batches_store=store)
    batch = await ended(router, made["id"])
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 2, "completed": 2, "failed": 0})
    assert sorted(await answers(router, batch["output_file_id"])) == ["fast", "slow"]
    asked = [request.chat.messages[0].content for request in worker.requests]
    assert asked.count("fast") == 1  # what was answered is not asked again


async def test_few_requests_run_at_a_time(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> None:
    gate = Gate()
    gate.open.set()
    worker = await start_worker(script=gate.script)
    router = await start_router(worker, batches_store=str(tmp_path / "b"), batches_at_once=2)
    file_id = await upload(router, [line(str(n)) for n in range(9)])
    batches = [await create(router, file_id) for _ in range(2)]
    for made in batches:
        assert (await ended(router, made["id"]))["request_counts"]["completed"] == 9
    assert 1 <= gate.most <= 2


async def test_a_request_that_could_not_run_now_is_tried_again(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    refusals = iter(range(1))

    async def script(request: inference_pb2.GenerateRequest, _context: RpcContext) -> Events:
        if next(refusals, None) is not None:
            raise Unavailable("Not now.", reason="BUSY", retry_after_s=0.01)
        yield started(request.model)
        yield finished()

    worker = await start_worker(script=script)
    router = await start_router(worker, batches_store=str(tmp_path / "b"), attempts=1)
    batch = await ended(router, (await create(router, await upload(router, [line("a")])))["id"])
    assert batch["request_counts"]["completed"] == 1
    assert len(worker.requests) == 2


async def test_a_batch_that_cannot_run_now_does_not_hold_up_others(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    refused = asyncio.Event()

    async def script(request: inference_pb2.GenerateRequest, context: RpcContext) -> Events:
        if request.chat.messages[0].content != "fast":
            refused.set()
            raise Unavailable("Not now.", reason="BUSY", retry_after_s=3600.0)
        async for event in say_hello(request, context):
            yield event

    worker = await start_worker(script=script)
    router = await start_router(worker, batches_store=str(tmp_path / "b"), attempts=1, batches_at_once=1)
    waiting = await create(router, await upload(router, [line("slow")]))
    await refused.wait()
    other = await ended(router, (await create(router, await upload(router, [line("fast")])))["id"])
    assert other["request_counts"]["completed"] == 1
    assert (await call(router, "GetBatch", pb.GetBatchRequest(batch_id=waiting["id"])))["status"] == "in_progress"


async def test_a_key_sees_only_its_own(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> None:
    keys = write_keys_of(tmp_path / "keys.json", mine={}, yours={"models": ["other"]})
    mine, yours = bearer("mine"), bearer("yours")
    router = await start_router(await start_worker(), batches_store=str(tmp_path / "b"), keys_file=keys)
    file_id = await upload(router, [line("a")], mine)
    batch = await ended(router, (await create(router, file_id, mine))["id"], mine)
    assert batch["request_counts"]["completed"] == 1
    for ask in (
        call(router, "GetFile", pb.GetFileRequest(file_id=file_id), yours),
        call(router, "GetBatch", pb.GetBatchRequest(batch_id=batch["id"]), yours),
        call(router, "CancelBatch", pb.CancelBatchRequest(batch_id=batch["id"]), yours),
        call(router, "DeleteFile", pb.DeleteFileRequest(file_id=file_id), yours),
        content(router, batch["output_file_id"], yours),
        create(router, file_id, yours),
    ):
        with pytest.raises(NotFound):
            await ask
    assert (await call(router, "ListFiles", pb.ListFilesRequest(), yours))["data"] == []
    own = await ended(router, (await create(router, await upload(router, [line("a")], yours), yours))["id"], yours)
    assert own["request_counts"]["failed"] == 1  # its key may not use the model


async def test_lists_have_pages(router: RunningRouter) -> None:
    ids = [await upload(router, [line(str(n))]) for n in range(3)]
    query = (("x-infermesh-query", f"limit=1&after={ids[2]}&purpose=batch"),)
    page = await call(router, "ListFiles", pb.ListFilesRequest(), query)
    assert ([file["id"] for file in page["data"]], page["has_more"]) == ([ids[1]], True)
    oldest = await call(router, "ListFiles", pb.ListFilesRequest(), (("x-infermesh-query", "order=asc"),))
    assert [file["id"] for file in oldest["data"]] == ids


async def test_without_a_file_it_says_why(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    with pytest.raises(FailedPrecondition, match="INFERMESH_BATCHES_STORE"):
        await upload(router, [line("a")])


async def test_another_router_cannot_use_its_file(
    router: RunningRouter, start_router: StartRouter, tmp_path: Path
) -> None:
    await upload(router, [line("a")])
    other = await start_router(batches_store=str(tmp_path / "batches.sqlite"))
    with pytest.raises(FailedPrecondition, match="Another router uses"):
        await upload(other, [line("a")])
