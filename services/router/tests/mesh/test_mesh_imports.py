"""Imports and removals through MeshService: which endpoint does them, how they are followed, and who may."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.testing.keyed import refusal
from infermesh_router.testing.keys import bearer, write_keys_of
from infermesh_router.testing.loading.models_folder import FolderWorker, SharedFolder
from infermesh_router.testing.router import WAIT_S, RunningRouter, StartRouter, running_router
from infermesh_runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    InfermeshError,
    InvalidArgument,
    ModelNotFound,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)

SECRET = "owner-" * 8
OWNER = (("x-infermesh-manage-key", SECRET),)
SOURCE = "hf:org/model"
StartFolderWorker = Callable[..., Any]


@pytest.fixture
async def start_folder() -> AsyncIterator[StartFolderWorker]:
    """Starts workers with models folders, and stops them at the end."""
    async with AsyncExitStack() as stack:

        async def start(**fields: Any) -> FolderWorker:
            worker = FolderWorker(models=fields.pop("loaded", ()), **fields)
            await worker.start()
            stack.push_async_callback(worker.stop)
            return worker

        yield start


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "manage.key"
    path.write_text(SECRET)
    path.chmod(0o600)
    return str(path)


async def begin(router: RunningRouter, name: str = "new", **fields: Any) -> pb.Import:
    request = pb.StartImportRequest(source=fields.pop("source", SOURCE), name=name, **fields)
    begun: pb.Import = await router.mesh.StartImport(request, metadata=OWNER)
    return begun


async def refused(router: RunningRouter, name: str = "new", **fields: Any) -> InfermeshError:
    request = pb.StartImportRequest(source=fields.pop("source", SOURCE), name=name, **fields)
    error, _ = await refusal(router.mesh.StartImport(request, metadata=OWNER))
    return error


async def listed(router: RunningRouter) -> list[pb.Import]:
    answer = await router.mesh.ListImports(pb.ListImportsRequest(), metadata=OWNER)
    return list(answer.imports)


async def snapshots(router: RunningRouter, metadata: Any = OWNER) -> AsyncIterator[dict[str, Any]]:
    """The snapshots of the events."""
    events = router.mesh.WatchEvents(pb.WatchEventsRequest(), metadata=metadata)
    try:
        while True:
            block = (await events.read()).data.decode()
            for event in block.split("\n\n"):
                if event.startswith("event: snapshot"):
                    yield json.loads(event.partition("data: ")[2])
    finally:
        events.cancel()


async def seen(router: RunningRouter, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The newest import, once a snapshot shows one that fits."""
    async with asyncio.timeout(WAIT_S):
        async for snapshot in snapshots(router):
            if snapshot["imports"] and fits(snapshot["imports"][0]):
                found: dict[str, Any] = snapshot["imports"][0]
                return found
    raise AssertionError


async def remove(router: RunningRouter, model: str, endpoint: str = "") -> list[str]:
    answer = await router.mesh.RemoveModel(pb.RemoveModelRequest(model=model, endpoint=endpoint), metadata=OWNER)
    return list(answer.endpoints)


async def test_an_import_is_followed_to_its_end(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    worker = await start_folder()
    router = await start_router(worker, manage_key_file=key_file)
    begun = await begin(router, source="org/model", weights="int4")
    assert (begun.state, begun.endpoint, begun.name) == ("running", worker.address, "new")
    assert (worker.starts[0].source, worker.starts[0].weights) == ("hf:org/model", "int4")
    assert [each.import_id for each in await listed(router)] == [begun.import_id]
    worker.imports[0].step, worker.imports[0].fraction, worker.imports[0].done_bytes = "downloading", 0.25, 3
    worker.note()
    half = await seen(router, lambda told: "fraction" in told)
    assert (half["step"], half["fraction"], half["done_bytes"]) == ("downloading", 0.25, 3)
    assert "total_bytes" not in half
    assert "ended_at" not in half
    worker.end(admin.IMPORT_STATE_FAILED, "no such model")
    ended = await seen(router, lambda told: bool(told["state"] != "running"))
    assert (ended["state"], ended["message"]) == ("failed", "no such model")
    assert ended["ended_at"]


async def test_the_first_that_can_import_does(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    able = [await start_folder(folder=SharedFolder(str(number))) for number in range(2)]
    unable = await start_folder(import_problem="the command is not installed")
    router = await start_router(unable, *able, manage_key_file=key_file)
    used = {(await begin(router, f"m{number}")).endpoint for number in range(2)}
    assert used == {worker.address for worker in able}
    assert isinstance(await refused(router, "m3"), ResourceExhausted)
    error = await refused(router, endpoint=unable.address)
    assert isinstance(error, FailedPrecondition)
    assert "the command is not installed" in error.message
    assert isinstance(await refused(router, endpoint="127.0.0.1:1"), NotFound)
    assert not unable.starts


async def test_without_an_endpoint_that_can_nothing_is_imported(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    router = await start_router(await start_folder(import_problem="no command"), manage_key_file=key_file)
    error = await refused(router)
    assert isinstance(error, FailedPrecondition)
    assert "no command" in error.message


async def test_what_is_wrong_is_refused_before_any_endpoint_hears_of_it(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    worker = await start_folder(folder=SharedFolder(models={"old"}))
    router = await start_router(worker, manage_key_file=key_file)
    wrong: list[dict[str, Any]] = [
        {"source": source} for source in ("", "/etc/passwd", "../x", "~/m.gguf", "pypi:a:m.pt", "http://u:pass@host/m")
    ]
    wrong += [{"name": name} for name in ("", "a/b", "..", ".hidden", "none")] + [{"weights": "int3"}]
    for fields in wrong:
        error = await refused(router, **fields)
        assert isinstance(error, InvalidArgument), fields
        assert "pass@" not in error.message
    assert not worker.starts
    assert isinstance(await refused(router, "old"), AlreadyExists)
    assert (await begin(router, "old", force=True)).state == "running"


async def test_a_cancelled_import_stays_listed(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    router = await start_router(await start_folder(), manage_key_file=key_file)
    begun = await begin(router)
    request = pb.CancelImportRequest(import_id=begun.import_id)
    ended = await router.mesh.CancelImport(request, metadata=OWNER)
    assert ended.state == "cancelled"
    assert await router.mesh.CancelImport(request, metadata=OWNER) == ended
    assert [each.state for each in await listed(router)] == ["cancelled"]
    error, _ = await refusal(router.mesh.CancelImport(pb.CancelImportRequest(import_id="none"), metadata=OWNER))
    assert isinstance(error, NotFound)


async def test_a_dead_workers_import_has_failed(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    worker = await start_folder()
    router = await start_router(worker, manage_key_file=key_file)
    begun = await begin(router)
    await worker.stop()
    lost = await seen(router, lambda told: bool(told["state"] == "failed"))
    assert lost["import_id"] == begun.import_id
    assert "The worker is lost" in lost["message"]
    worker.restart()
    await worker.start()
    again = await begin_when_back(router)
    assert [(each.import_id, each.state) for each in await listed(router)] == [
        (again.import_id, "running"),
        (begun.import_id, "failed"),
    ]


async def begin_when_back(router: RunningRouter) -> pb.Import:
    await router.endpoints_when(lambda endpoints: all(endpoint.connected for endpoint in endpoints))
    return await begin(router, "again")


async def test_a_worker_that_was_only_cut_off_goes_on(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    worker = await start_folder()
    router = await start_router(worker, manage_key_file=key_file, reconnect_max_s=0.1)
    await begin(router)
    await worker.stop()
    await seen(router, lambda told: bool(told["state"] == "failed"))
    await worker.start()
    back = await seen(router, lambda told: bool(told["state"] == "running"))
    assert back["message"] == ""


async def test_a_new_router_sees_what_runs(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    worker = await start_folder()
    begun = await begin(await start_router(worker, manage_key_file=key_file))
    async with running_router(worker.address, manage_key_file=key_file) as other:
        assert (await seen(other, lambda _told: True))["import_id"] == begun.import_id
        stopped = await other.mesh.CancelImport(pb.CancelImportRequest(import_id=begun.import_id), metadata=OWNER)
        assert stopped.state == "cancelled"


async def test_workers_without_imports_are_not_asked(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    idle, busy = [await start_folder(folder=SharedFolder(str(number))) for number in range(2)]
    router = await start_router(idle, busy, manage_key_file=key_file)
    begun = await begin(router, endpoint=busy.address)
    await seen(router, lambda told: bool(told["import_id"] == begun.import_id))
    busy.end(admin.IMPORT_STATE_DONE)
    await seen(router, lambda told: bool(told["state"] == "done"))
    assert not idle.listed


async def test_a_model_is_removed_once_from_a_folder_that_workers_share(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    shared, own = SharedFolder("shared", {"m", "n"}), SharedFolder("own", {"m"})
    workers = [await start_folder(folder=folder) for folder in (shared, shared, own)]
    router = await start_router(*workers, manage_key_file=key_file)
    assert await remove(router, "m") == sorted(worker.address for worker in workers)
    assert (shared.models, own.models) == ({"n"}, set())
    assert await remove(router, "n", workers[0].address) == sorted(worker.address for worker in workers[:2])
    error, _ = await refusal(router.mesh.RemoveModel(pb.RemoveModelRequest(model="m"), metadata=OWNER))
    assert isinstance(error, ModelNotFound)


async def test_an_error_names_where_the_model_was_removed(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    folders = [SharedFolder(str(number), {"m"}) for number in range(3)]
    workers = sorted([await start_folder(folder=folder) for folder in folders], key=lambda worker: str(worker.address))
    router = await start_router(*workers, manage_key_file=key_file)
    workers[2].removal_error = FailedPrecondition("It is stuck.", reason="STUCK")
    request = pb.RemoveModelRequest(model="m")
    error, _ = await refusal(router.mesh.RemoveModel(request, metadata=OWNER))
    gone = [worker.address for worker in workers if not worker.folder.models]
    assert gone == [worker.address for worker in workers[:2]]
    assert isinstance(error, FailedPrecondition)
    assert (error.reason, error.metadata["removed"].split(",")) == ("STUCK", gone)
    assert error.message == f"{workers[2].address}: It is stuck. The model was removed on {', '.join(gone)}."


async def test_where_a_removal_may_fail_it_is_tried_first(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    workers = sorted([await start_folder() for _ in range(3)], key=lambda worker: str(worker.address))
    reading, writing, unable = workers
    reading.folder = writing.folder = SharedFolder("shared", {"m"})
    unable.folder = SharedFolder("unable", {"m"})
    for worker in (reading, unable):
        worker.import_problem, worker.removal_error = "it may not", FailedPrecondition("It may not.")
    router = await start_router(*workers, manage_key_file=key_file)
    error, _ = await refusal(router.mesh.RemoveModel(pb.RemoveModelRequest(model="m"), metadata=OWNER))
    assert (error.message, writing.folder.models) == ("It may not.", {"m"})


async def test_a_loaded_model_is_not_removed(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    shared = SharedFolder("shared", {"m"})
    loaded, other = await start_folder(folder=shared, loaded=("m",)), await start_folder(folder=shared)
    router = await start_router(loaded, other, manage_key_file=key_file)
    for endpoint in ("", other.address):
        error, _ = await refusal(
            router.mesh.RemoveModel(pb.RemoveModelRequest(model="m", endpoint=endpoint), metadata=OWNER)
        )
        assert isinstance(error, FailedPrecondition)
        assert (error.reason, loaded.address in error.message) == ("MODEL_IN_USE", True)
    error, _ = await refusal(router.mesh.RemoveModel(pb.RemoveModelRequest(model="../m"), metadata=OWNER))
    assert isinstance(error, InvalidArgument)
    assert shared.models == {"m"}


async def test_a_loaded_model_is_not_replaced(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str
) -> None:
    shared = SharedFolder("shared", {"m"})
    loaded = await start_folder(folder=shared, loaded=("m",), import_problem="it may not")
    able = await start_folder(folder=shared)
    router = await start_router(loaded, able, manage_key_file=key_file)
    for endpoint in ("", able.address):
        error = await refused(router, "m", endpoint=endpoint, force=True)
        assert isinstance(error, FailedPrecondition)
        assert (error.reason, loaded.address in error.message) == ("MODEL_IN_USE", True)
    assert not able.starts
    assert (await begin(router, "n", force=True)).endpoint == able.address


CALLS: dict[str, Any] = {
    "StartImport": pb.StartImportRequest(source=SOURCE, name="new"),
    "ListImports": pb.ListImportsRequest(),
    "CancelImport": pb.CancelImportRequest(import_id="x"),
    "RemoveModel": pb.RemoveModelRequest(model="old"),
}


async def test_only_those_who_manage_may(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str, tmp_path: Path
) -> None:
    worker = await start_folder(folder=SharedFolder(models={"old"}))
    keys = write_keys_of(tmp_path / "keys.json", a={}, boss={"admin": True})
    router = await start_router(worker, manage_key_file=key_file, keys_file=keys)
    for call, request in CALLS.items():
        error, _ = await refusal(getattr(router.mesh, call)(request, metadata=bearer("a")))
        assert isinstance(error, PermissionDenied), call
        error, _ = await refusal(getattr(router.mesh, call)(request))
        assert isinstance(error, Unauthenticated), call
    assert not worker.starts
    assert worker.folder.models == {"old"}
    begun = await router.mesh.StartImport(CALLS["StartImport"], metadata=bearer("boss"))
    await seen(router, lambda told: bool(told["import_id"] == begun.import_id))
    async for snapshot in snapshots(router, bearer("a")):
        assert snapshot["imports"] == []
        break


async def test_passwords_do_not_reach_the_audit_log(
    start_folder: StartFolderWorker, start_router: StartRouter, key_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="infermesh.audit")
    router = await start_router(await start_folder(), manage_key_file=key_file)
    await refused(router, source="https://me:hunter2@host/model?token=hunter3")
    (line,) = [record for record in caplog.records if record.name == "infermesh.audit"]
    assert (line.__dict__["action"], line.__dict__["who"]) == ("StartImport", "owner")
    assert line.__dict__["target"]["source"] == "https://***@host/model?***"
