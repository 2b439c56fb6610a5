"""Finds out how a running mesh differs from what `infermesh up` was now asked for."""

import os
from collections.abc import Iterable, Sequence

from infermesh_client.mesh.ports import HOST
from infermesh_client.mesh.state import MeshState, digest_settings
from infermesh_client.mesh.workers import WorkerSpec
from infermesh_client.settings import ClientSettings
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.settings import PREFIX


def check_same(
    state: MeshState,
    settings: ClientSettings,
    workers: Sequence[WorkerSpec],
    running: Iterable[str],
    routers: int | None = None,
) -> None:
    """Raises FailedPrecondition unless the running mesh has the workers and settings that were asked for now.

    `running` holds the names of its services. A setting that was given at the start and is not set now is no request
    for another one, and neither is a worker that runs besides those asked for. `routers`: how many were asked for;
    None: any number will do.
    """
    parts = (_workers(workers, running), _routers(state, routers), _ports(state, settings), _settings(state))
    if differences := [each for part in parts for each in part]:
        raise FailedPrecondition(
            f"the running mesh is not as asked for: {'; '.join(differences)}. Stop it with `infermesh down`, then "
            "run this command again",
            reason="MESH_DIFFERS",
        )


def _workers(wanted: Sequence[WorkerSpec], running: Iterable[str]) -> list[str]:
    names = sorted(name for name in running if name.startswith("worker-"))
    missing = [
        worker.name for worker in wanted if not any(name == worker.name or _is_one_of(worker, name) for name in names)
    ]
    return [f"it runs {', '.join(names) or 'no worker'}, without {', '.join(missing)}"] if missing else []


def _is_one_of(worker: WorkerSpec, name: str) -> bool:
    """Whether the process runs a device of the worker's kind, and any will do."""
    return worker.device_index is None and name.startswith(f"{worker.name}-")


def _routers(state: MeshState, wanted: int | None) -> list[str]:
    count = len(state.admins) or 1
    return [] if wanted in (None, count) else [f"it runs {count} router{'s' if count > 1 else ''}, not {wanted}"]


def _ports(state: MeshState, settings: ClientSettings) -> list[str]:
    asked = {"http_port": (settings.http_port, state.http), "grpc_port": (settings.grpc_port, state.grpc)}
    return [
        f"it listens on {address}, and {PREFIX}{name.upper()} is {port}"
        for name, (port, address) in asked.items()
        if name in settings.model_fields_set and address != f"{HOST}:{port}"
    ]


def _settings(state: MeshState) -> list[str]:
    return [
        f"{name} is not what it was started with"
        for name, digest in digest_settings(os.environ).items()
        if name not in ("INFERMESH_HTTP_PORT", "INFERMESH_GRPC_PORT") and state.settings.get(name) != digest
    ]
