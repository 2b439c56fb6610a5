"""Keeps this worker registered with its routers, through one open RegisterEndpoint call to each."""

import asyncio
import ipaddress
import logging
import random
from collections.abc import Callable, Collection, Sequence
from functools import partial

import grpc

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1.admin_pb2_grpc import AdminServiceStub
from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor
from infermesh_runtime.rpc.channel import open_aio_channel
from infermesh_runtime.rpc.identity import MeshIdentity
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS
from infermesh_runtime.settings import split_host_port

DNS = "dns:///"
RESOLVE_S = 10.0
"""How often a name that stands for several routers is resolved."""
FIRST_DELAY_S = 0.2
MAX_DELAY_S = 10.0

_OPTIONS = (
    *CHANNEL_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", int(1000 * FIRST_DELAY_S)),
    ("grpc.max_reconnect_backoff_ms", int(1000 * MAX_DELAY_S)),
)

_log = logging.getLogger(__name__)


def advertised_address(advertise: str, port: int) -> str:
    """The address to register: `advertise` (host:port), with `port` for port 0 and without a wildcard host."""
    host, given = split_host_port(advertise)
    return f"{_shown_host(host)}:{given or port}"


def _shown_host(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return ""
    return f"[{host}]" if address.version == 6 else host


class Registration:
    """Keeps this worker registered with every router until it is stopped. Used from one event loop."""

    def __init__(
        self,
        routers: Sequence[str],
        advertise: str,
        port: Callable[[], int],
        tasks: TaskSupervisor | None = None,
        *,
        identity: MeshIdentity | None = None,
    ) -> None:
        """`routers`: admin addresses, host:port, unix:PATH or dns:///name:port. `port` returns the worker's own port.

        `identity` is what the worker shows the routers.
        """
        self._identity = identity or MeshIdentity()
        self._routers = routers
        self._advertise = advertise
        self._port = port
        self._tasks = tasks or TaskSupervisor()
        self._running: list[BackgroundTask] = []
        self._staying: dict[tuple[str, str], BackgroundTask] = {}
        """The registration with each address of each name."""

    async def start(self) -> None:
        """Begins to register. Routers that cannot be reached are retried until they can."""
        address = advertised_address(self._advertise, self._port())
        for router in self._routers:
            follow = self._follow_name if router.startswith(DNS) else self._stay_registered
            self._running.append(self._tasks.start("registration", partial(follow, router, address), about=router))

    async def stop(self) -> None:
        """Ends the registration with every router."""
        tasks = [*self._running, *self._staying.values()]
        for task in tasks:
            task.stop()
        for task in tasks:
            await task.wait()

    async def _follow_name(self, router: str, address: str) -> None:
        """Stays registered with every address of a name, as addresses come and go."""
        while True:
            found = await _resolve(router.removeprefix(DNS))
            if found is not None:
                self._stay_with(router, found, address)
            await asyncio.sleep(RESOLVE_S)

    def _stay_with(self, router: str, found: Collection[str], address: str) -> None:
        """Ends the registrations with addresses that the name has no more, and begins those with new ones."""
        known = {target for name, target in self._staying if name == router}
        for gone in known.difference(found):
            self._staying.pop((router, gone)).stop()
        for target in set(found) - known:
            stay = partial(self._stay_registered, target, address)
            self._staying[router, target] = self._tasks.start("registration", stay, about=f"{router} {target}")

    async def _stay_registered(self, router: str, address: str) -> None:
        async with open_aio_channel(router, self._identity, _OPTIONS) as channel:
            delay_s, known_problem = FIRST_DELAY_S, ""
            while True:
                stub = AdminServiceStub(channel)
                was_registered, problem = await _register(stub, router, address)
                delay_s = FIRST_DELAY_S if was_registered else min(2 * delay_s, MAX_DELAY_S)
                if was_registered or problem != known_problem:
                    _log.warning("not registered", extra={"router": router, "reason": problem})
                known_problem = problem
                # Spreads the workers out, so that they do not all register at once when a router comes back.
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret


async def _register(stub: AdminServiceStub, router: str, address: str) -> tuple[bool, str]:
    """Registers until the call ends; returns whether it was registered, and why that ended."""
    registered = False
    try:
        async for response in stub.RegisterEndpoint(pb.RegisterEndpointRequest(address=address)):
            if not registered:
                _log.info("registered", extra={"router": router, "address": response.address})
            registered = True
    except grpc.aio.AioRpcError as error:
        return registered, f"{error.code().name}: {error.details()}"
    return registered, "the router ended the registration"


async def _resolve(name: str) -> set[str] | None:
    """host:port of every address of "name:port"; None when the name cannot be resolved now."""
    host, port = split_host_port(name)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
    except (OSError, UnicodeError) as error:
        _log.warning("cannot resolve the routers' name", extra={"name": name, "reason": str(error)})
        return None
    addresses = {sockaddr[0] for *_, sockaddr in found}
    return {f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}" for address in addresses}
