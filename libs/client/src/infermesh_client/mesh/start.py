"""Starts a mesh on this machine, and stops it again when a part of it fails."""

import asyncio
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from infermesh_client.mesh.plan import plan_mesh, write_envoy_config
from infermesh_client.mesh.ports import check_free_port
from infermesh_client.mesh.ready import ShowStatus, wait_until_ready
from infermesh_client.mesh.state import MeshState, write_state
from infermesh_client.mesh.stop import stop_mesh
from infermesh_client.mesh.supervision.supervisor import Supervisor
from infermesh_client.mesh.workers import WorkerSpec, check_installed
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument

STOP_MARGIN_S = 10.0
"""How long a service may take to end after it has drained, in seconds."""


def drain_s() -> float:
    """The services' INFERMESH_DRAIN_S, in seconds; they report a malformed value themselves."""
    try:
        return float(os.environ.get("INFERMESH_DRAIN_S", "30"))
    except ValueError:
        return 30.0


def check_startable(settings: ClientSettings, workers: Sequence[WorkerSpec]) -> None:
    """Checks, before anything starts, that every package is installed and the ports are free and different.

    Raises FailedPrecondition or InvalidArgument.
    """
    check_installed(workers)
    if settings.http_port == settings.grpc_port:
        raise InvalidArgument(
            f"INFERMESH_HTTP_PORT and INFERMESH_GRPC_PORT are both {settings.http_port}; give them different ports"
        )
    check_free_port(settings.http_port, "INFERMESH_HTTP_PORT")
    check_free_port(settings.grpc_port, "INFERMESH_GRPC_PORT")


def start_mesh(
    settings: ClientSettings,
    home: Home,
    workers: Sequence[WorkerSpec],
    model: str,
    *,
    routers: int = 1,
    deadline_s: float,
    show_status: ShowStatus,
) -> MeshState:
    """Starts every process and returns when all of them answer. When one fails, stops them all and raises its error.

    The mesh token and the owner's secret must have been written.
    """
    plan = plan_mesh(settings, home, workers, model, routers)
    home.run.mkdir(parents=True, exist_ok=True)
    home.log.mkdir(parents=True, exist_ok=True)
    write_envoy_config(plan, settings, home)
    supervisor = Supervisor(home)
    state = write_state(plan, home, tls_cert=settings.tls_cert)
    started = supervisor.start(plan.services, stop_wait_s=drain_s() + STOP_MARGIN_S)
    try:
        asyncio.run(wait_until_ready(state, supervisor, deadline_s=deadline_s, show_status=show_status))
    except BaseException:
        stop_mesh(home, wait_s=STOP_MARGIN_S, started_pid=started.pid)
        raise
    return state


@contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Locks the home folder, so that only one `up` runs in it at a time, and closes its run folder to other users.

    Raises FailedPrecondition when another one is running, or when the folder cannot be written.
    """
    try:
        home.run.mkdir(parents=True, exist_ok=True)
        home.run.chmod(0o700)  # it holds secrets and sockets
        lock = os.open(home.run / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FailedPrecondition(f"cannot write to {home.root} (INFERMESH_HOME): {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise FailedPrecondition(
            f"another `infermesh up` is running in {home.root}; wait until it has finished"
        ) from None
    finally:
        os.close(lock)
