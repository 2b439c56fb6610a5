"""ModelsFolderService of a running worker: what it refuses, what it removes, and what its reports say."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1.admin_pb2_grpc import ModelsFolderServiceStub
from infermesh_runtime.importing.models_folder import folder_id
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_worker.testing.processes import WorkerStubs, connected, simulated_worker_process


@dataclass(frozen=True)
class Running:
    """A worker and its folder."""

    root: Path
    worker: WorkerStubs
    folder: ModelsFolderServiceStub


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    root = tmp_path_factory.mktemp("models")
    async with simulated_worker_process(models=root, sim_models="other:1MiB") as process:
        address = await process.ready()
        async with connected(process) as worker, grpc.aio.insecure_channel(address) as channel:
            yield Running(root, worker, ModelsFolderServiceStub(channel))


def make_model(root: Path, name: str) -> Path:
    (root / name).mkdir()
    (root / name / "infermesh.json").write_text(json.dumps({"name": name}))
    return root / name


async def refusal(call: Any) -> tuple[str, str]:
    """Code and reason of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    found = from_rpc_error(error.value)
    return error.value.code().name, found.reason


@pytest.mark.asyncio(loop_scope="module")
async def test_only_models_that_are_not_loaded_are_removed(running: Running) -> None:
    loaded, other = make_model(running.root, "simulated"), make_model(running.root, "other")
    (running.root / "notes").mkdir()

    def removal(name: str) -> Any:
        return running.folder.RemoveModel(pb.RemoveModelRequest(model=name))

    assert await refusal(removal("simulated")) == ("FAILED_PRECONDITION", "MODEL_IN_USE")
    replacing = pb.StartImportRequest(source="hf:a/b", name="simulated", force=True)
    assert await refusal(running.folder.StartImport(replacing)) == ("FAILED_PRECONDITION", "MODEL_IN_USE")
    await running.worker.load("other")
    assert await refusal(removal("other")) == ("FAILED_PRECONDITION", "MODEL_IN_USE")
    await running.worker.endpoint.UnloadModel(pb.UnloadModelRequest(model="other"))
    await removal("other")
    assert not other.exists()
    for name in ("", ".", "..", "../models", "a/b", ".import.lock", "none"):
        assert (await refusal(removal(name)))[0] == "INVALID_ARGUMENT", name
    for name in ("other", "notes", "nothing"):
        assert await refusal(removal(name)) == ("NOT_FOUND", "MODEL_NOT_FOUND"), name
    assert loaded.exists()
    assert (running.root / "notes").exists()
    assert not list(running.root.glob(".import-*"))


@pytest.mark.asyncio(loop_scope="module")
async def test_wrong_sources_are_refused_at_once(running: Running) -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"source": str(running.root)},
        {"source": "file:///etc/passwd"},
        {"source": "pypi:a==1:b.TS"},
        {"name": "../x"},
        {"weights": "f16"},
    )
    for fields in wrong:
        request = pb.StartImportRequest(**{"source": "hf:a/b", "name": "m", **fields})
        assert (await refusal(running.folder.StartImport(request)))[0] == "INVALID_ARGUMENT", fields
    assert not (await running.folder.ListImports(pb.ListImportsRequest())).imports
    unknown = running.folder.CancelImport(pb.CancelImportRequest(import_id="x"))
    assert await refusal(unknown) == ("NOT_FOUND", "IMPORT_NOT_FOUND")


@pytest.mark.asyncio(loop_scope="module")
async def test_reports_tell_the_folder(running: Running, tmp_path: Path) -> None:
    told = (await running.worker.report()).models_folder
    (tmp_path / "link").symlink_to(running.root)
    assert (told.id, told.import_problem, told.import_changes) == (folder_id(tmp_path / "link"), "", 0)
    assert told.id != folder_id(tmp_path)


async def test_a_worker_may_be_told_to_leave_its_models_alone(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "m")
    async with simulated_worker_process(models=tmp_path, manage_models=False) as process:
        async with connected(process) as worker:
            assert "INFERMESH_MANAGE_MODELS" in (await worker.report()).models_folder.import_problem
        async with grpc.aio.insecure_channel(await process.ready()) as channel:
            stub = ModelsFolderServiceStub(channel)
            request = pb.StartImportRequest(source="hf:a/b", name="n")
            assert await refusal(stub.StartImport(request)) == ("FAILED_PRECONDITION", "IMPORT_NOT_POSSIBLE")
            removal = stub.RemoveModel(pb.RemoveModelRequest(model="m"))
            assert await refusal(removal) == ("FAILED_PRECONDITION", "REMOVAL_NOT_POSSIBLE")
    assert folder.exists()
