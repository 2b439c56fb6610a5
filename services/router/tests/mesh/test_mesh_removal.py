"""Removals through MeshService: which endpoint does them, and what is told when they fail."""

from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.testing.keyed import refusal
from infermesh_router.testing.loading.models_folder import SharedFolder
from infermesh_router.testing.router import StartRouter
from infermesh_runtime.errors import (
    FailedPrecondition,
    InvalidArgument,
    ModelNotFound,
)
from services.router.tests.mesh.importing import OWNER, StartFolderWorker, remove


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
