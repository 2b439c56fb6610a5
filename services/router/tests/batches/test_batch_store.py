"""What a router left runs on after its start, or ends: within its time, for its key, and no longer than it is kept."""

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from infermesh.openai.v1 import batches_pb2 as pb
from infermesh_router.batches.runner import passes
from infermesh_router.batches.store.batches import Batches
from infermesh_router.batches.store.database import Database
from infermesh_router.batches.store.files import Files
from infermesh_router.batches.store.kept import EXPIRED, INVALID, Batch, Line, Problem, StoreBounds
from infermesh_router.testing.batches import answers, call, create, ended, line, upload
from infermesh_router.testing.keys import bearer, key_of, write_keys_of
from infermesh_router.testing.router import StartRouter, StartWorker, running_router
from infermesh_runtime.errors import (
    InfermeshError,
    InvalidArgument,
    ModelNotFound,
    NotFound,
    ResourceExhausted,
    Unavailable,
)

LARGE = StoreBounds(max_bytes=1 << 20, max_age_s=1000)
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'


def batch_of(owner: str = "", *, left_s: float = 1000) -> Batch:
    now_s = int(time.time())
    return Batch(
        id="batch_a", owner=owner, endpoint="/v1/chat/completions", input_file="f", created_s=now_s,
        expires_s=int(now_s + left_s),
    )  # fmt: skip


def leave(path: Path, batch: Batch) -> str:
    """Leaves a batch with one request, as a router that was stopped does; the path."""
    database = Database(path, LARGE)
    Batches(database).add(batch, [Line(custom_id="a", body=BODY)])
    database.close()
    return str(path)


async def test_requests_expire(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> None:
    worker = await start_worker()
    router = await start_router(worker, batches_store=leave(tmp_path / "b", batch_of(left_s=-1)))
    batch = await ended(router, "batch_a")
    assert (batch["status"], batch["request_counts"]["failed"]) == ("expired", 1)
    assert batch["expired_at"] >= batch["created_at"]
    (error,) = (await answers(router, batch["error_file_id"])).values()
    assert (error["custom_id"], error["response"], error["error"]["code"]) == ("a", None, "batch_expired")
    assert worker.requests == []


async def test_a_batch_runs_for_the_key_that_made_it(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    left = leave(tmp_path / "b", batch_of(key_of("mine").sha256))
    keys = write_keys_of(tmp_path / "keys.json", mine={"max_priority": 0}, yours={})
    router = await start_router(await start_worker(), batches_store=left, keys_file=keys)
    assert (await ended(router, "batch_a", bearer("mine")))["request_counts"]["completed"] == 1
    with pytest.raises(NotFound):
        await call(router, "GetBatch", pb.GetBatchRequest(batch_id="batch_a"), bearer("yours"))


async def test_without_its_key_it_fails(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A mesh that has got API keys runs nothing more for callers who had none."""
    worker, path, stored = await start_worker(), tmp_path / "b", threading.Event()
    end_batch = Batches.end

    def end(store: Batches, batch_id: str, owner: str, state: str) -> None:
        end_batch(store, batch_id, owner, state)
        if batch_id == "batch_a":
            stored.set()

    monkeypatch.setattr(Batches, "end", end)
    keys = write_keys_of(tmp_path / "keys.json", mine={})
    left = leave(path, batch_of(""))
    async with running_router(worker.address, batches_store=left, keys_file=keys) as router:
        done = await upload(router, [line("b")], bearer("mine"))
        await ended(router, (await create(router, done, bearer("mine")))["id"], bearer("mine"))
        assert await asyncio.to_thread(stored.wait, 20)
    database = Database(path, LARGE)
    assert Batches(database).get("", "batch_a").counts.failed == 1
    database.close()
    assert [request.chat.messages[0].content for request in worker.requests] == ["b"]


@pytest.mark.parametrize(
    ("error", "now", "at_the_start"),
    [
        (Unavailable("x"), True, True),
        (ResourceExhausted("x", retry_after_s=1), True, True),
        (ResourceExhausted("x"), False, False),
        (ModelNotFound("x"), False, True),
        (InvalidArgument("x"), False, False),
    ],
)
def test_what_is_tried_again(error: InfermeshError, now: bool, at_the_start: bool) -> None:
    assert (passes(error), passes(error, patient=True)) == (now, at_the_start)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_what_is_old_is_dropped(tmp_path: Path) -> None:
    clock = Clock()
    database = Database(tmp_path / "b", LARGE, clock=clock)
    files, batches = Files(database), Batches(database)
    old = files.add("me", "a", "batch", b"x")
    batches.add(
        Batch(id="b", owner="me", endpoint="/v1/completions", input_file="f", created_s=1000, expires_s=9999), []
    )
    clock.now_s += 1001
    new = files.add("me", "b", "batch", b"y")
    assert files.listed("me", "") == [new]
    with pytest.raises(NotFound):
        files.get("me", old.id)
    batches.end("b", "me", EXPIRED)  # it is gone, which is no error
    assert batches.listed("me") == []
    database.close()


async def test_beyond_its_bounds_the_store_refuses(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(await start_worker(), batches_store=str(tmp_path / "b"), batches_bytes=2000)
    file_id = await upload(router, [b"x" * 1900])
    with pytest.raises(ResourceExhausted, match="Delete files"):
        await upload(router, [b"x" * 200])
    await call(router, "DeleteFile", pb.DeleteFileRequest(file_id=file_id))
    request = line("a")
    batch = await ended(
        router, (await create(router, await upload(router, [request, b" " * (1350 - len(request))])))["id"]
    )
    assert batch["request_counts"] == {"total": 1, "completed": 0, "failed": 1}  # no room for its answer
    assert (await answers(router, batch["error_file_id"]))["a"]["error"]["code"] == "no_room"


def held(database: Database) -> int:
    """How many bytes it says that it has."""
    with pytest.raises(ResourceExhausted) as caught:
        database.hold(LARGE.max_bytes + 1)
    return int(caught.value.message.partition("has ")[2].partition(".")[0])


def test_all_that_callers_chose_counts(tmp_path: Path) -> None:
    database = Database(tmp_path / "b", LARGE)
    files, batches = Files(database), Batches(database)
    file = files.add("me", "é" * 100, "batch", b"x")
    assert held(database) == 201
    batches.add(batch_of(), [Line(custom_id="é" * 500, body=BODY)])
    before = held(database)
    assert before > 201 + 1000 + len(BODY)
    problems = tuple(Problem(n, "invalid_request", "m" * 100) for n in range(100))
    batches.add(replace(batch_of(), id="failed", state=INVALID, problems=problems, metadata=b'"m"'), [])
    counted = held(database)
    assert counted > before + 100 * 100
    database.drop_old()  # counts anew
    assert held(database) == counted
    files.delete("me", file.id)
    assert held(database) == counted - 201
    database.close()


def test_a_full_store_takes_no_batch_that_failed_at_once(tmp_path: Path) -> None:
    database = Database(tmp_path / "b", LARGE)
    Files(database).add("me", "f", "batch", b"x" * (LARGE.max_bytes - 1))
    with pytest.raises(ResourceExhausted):
        Batches(database).add(replace(batch_of(), state=INVALID), [])
    assert Batches(database).listed("") == []
    database.close()


def test_a_file_is_for_its_user_only_and_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "b"
    database = Database(path, LARGE)
    kept = Files(database).add("me", "a", "batch", b"x")
    database.close()
    assert path.stat().st_mode & 0o777 == 0o600
    again = Database(path, LARGE)
    assert Files(again).whole("me", kept.id) == b"x"
    again.close()


async def test_a_file_of_another_program_is_left_alone(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    path = tmp_path / "b"
    path.write_bytes(b"not a database at all" * 100)
    router = await start_router(await start_worker(), batches_store=str(path))
    with pytest.raises(Unavailable, match="cannot be used"):
        await upload(router, [line("a")])
    assert path.read_bytes().startswith(b"not a database")
