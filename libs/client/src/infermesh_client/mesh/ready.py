"""Waits until a starting mesh answers, or raises as soon as a part of it fails."""

import asyncio
from collections.abc import Callable, Sequence

import httpx

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2
from infermesh_client.aio import AsyncClient
from infermesh_client.mesh.rest import rest_url, trust
from infermesh_client.mesh.state import MeshState
from infermesh_client.mesh.supervision.supervisor import Supervisor
from infermesh_runtime.errors import DeadlineExceeded, FailedPrecondition, Unavailable, Unimplemented

_RETRY_S = 0.1

ShowStatus = Callable[[str], None]
"""Called with a line that says what the start is waiting for."""


async def wait_until_ready(
    state: MeshState, supervisor: Supervisor, *, deadline_s: float, show_status: ShowStatus
) -> None:
    """Returns when the router sees every local worker as READY and Envoy answers.

    Raises FailedPrecondition when a service ends, with the end of its log, or when a worker is FAILED, with its own
    message. Raises DeadlineExceeded after `deadline_s` seconds.
    """
    waiting = asyncio.create_task(_wait(state, show_status))
    watching = asyncio.create_task(_watch_services(supervisor))
    try:
        async with asyncio.timeout(deadline_s):
            await asyncio.wait({waiting, watching}, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        raise DeadlineExceeded(
            f"the mesh was not ready within {deadline_s:.0f} s; see the logs in {supervisor.log_of('*')}, "
            "or allow more time with --timeout-s"
        ) from None
    finally:
        for task in (waiting, watching):
            task.cancel()
        results = await asyncio.gather(waiting, watching, return_exceptions=True)
    failures = [result for result in results if isinstance(result, Exception)]
    if failures:
        raise failures[0]


async def _wait(state: MeshState, show_status: ShowStatus) -> None:
    show_status("waiting for the router")
    for admin in state.admins or (state.admin or state.router,):
        while not await _workers_ready(admin, state, show_status):  # noqa: ASYNC110 - until it listens there is no event
            await asyncio.sleep(_RETRY_S)
    show_status("waiting for Envoy")
    await _wait_for_envoy(state)


async def _workers_ready(admin: str, state: MeshState, show_status: ShowStatus) -> bool:
    """Watches a router's endpoints until every local worker is ready. False when the router cannot be reached."""
    try:
        async with AsyncClient(admin) as client:
            async for endpoints in client.watch_endpoints(min_interval_ms=50):
                lagging = [address for address in state.workers if not _is_ready(address, endpoints)]
                if not lagging:
                    return True
                _check_none_failed(lagging, endpoints)
                show_status(f"waiting for {', '.join(_describe(address, endpoints) for address in lagging)}")
    except (Unavailable, Unimplemented):
        pass
    return False


def _is_ready(address: str, endpoints: Sequence[admin_pb2.Endpoint]) -> bool:
    ready = inference_pb2.ENDPOINT_STATE_READY
    return any(e.address == address and e.connected and e.report.state == ready for e in endpoints)


def _check_none_failed(addresses: Sequence[str], endpoints: Sequence[admin_pb2.Endpoint]) -> None:
    """Raises FailedPrecondition when one of the addresses is FAILED: waiting longer would not help."""
    failed = inference_pb2.ENDPOINT_STATE_FAILED
    for endpoint in endpoints:
        if endpoint.address in addresses and endpoint.connected and endpoint.report.state == failed:
            raise FailedPrecondition(f"the worker at {endpoint.address} failed: {endpoint.report.message}")


def _describe(address: str, endpoints: Sequence[admin_pb2.Endpoint]) -> str:
    message = next((e.report.message for e in endpoints if e.address == address and e.connected), "")
    return f"the worker at {address}" + (f" ({message})" if message else "")


async def _wait_for_envoy(state: MeshState) -> None:
    url = f"{rest_url(state)}/health"
    async with httpx.AsyncClient(trust_env=False, verify=trust(state)) as client:
        while True:
            try:
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(_RETRY_S)


async def _watch_services(supervisor: Supervisor) -> None:
    """Never returns. Raises FailedPrecondition when a service, or the supervisor itself, has ended."""
    first_pids: dict[str, int] = {}
    answered = False
    while True:
        try:
            processes = await asyncio.to_thread(supervisor.processes)
            answered = True
        except OSError as error:
            if answered or supervisor.has_ended():
                raise FailedPrecondition(f"the supervisor ended:\n{supervisor.log_tail('supervisord')}") from error
            processes = []
        for process in processes:
            pid = first_pids.setdefault(process.name, process.pid) if process.pid else 0
            if process.state in ("BACKOFF", "EXITED", "FATAL") or pid != process.pid:
                raise FailedPrecondition(f"{process.name} ended:\n{supervisor.log_tail(process.name)}")
        await asyncio.sleep(_RETRY_S)
