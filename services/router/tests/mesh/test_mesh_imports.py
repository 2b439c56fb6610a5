"""Imports through MeshService: which endpoint does them, how they are followed, and who may."""

from pathlib import Path
from typing import Any

import pytest

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.testing.keyed import refusal
from infermesh_router.testing.keys import bearer, write_keys_of
from infermesh_router.testing.loading.models_folder import SharedFolder
from infermesh_router.testing.router import RunningRouter, StartRouter, running_router
from infermesh_runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from services.router.tests.mesh.importing import (
    OWNER,
    SOURCE,
    StartFolderWorker,
    begin,
    listed,
    refused,
    seen,
    snapshots,
)


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
