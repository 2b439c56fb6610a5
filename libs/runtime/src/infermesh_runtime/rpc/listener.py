"""One address where a server answers, with the services it offers there and who may call them.

A server has a listener of its own for each plane: clients cannot reach what is only offered to operators.
"""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from infermesh_runtime.addresses import UNIX, grpc_target, split_host_port, unix_path
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.rpc.in_flight import InFlight
from infermesh_runtime.rpc.interceptor import RpcInterceptor, RpcObserver
from infermesh_runtime.rpc.limits.body_budget import Bodies
from infermesh_runtime.rpc.limits.call_limit import NO_LIMIT, CallLimit
from infermesh_runtime.rpc.mesh_token import Guard
from infermesh_runtime.rpc.options import SERVER_OPTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerAccess:
    """Who may call the services of a listener, and what it tells about itself."""

    guard: Guard | None = None
    """Refuses calls; None lets everybody in who can connect."""
    credentials: grpc.ServerCredentials | None = None
    """TLS; None is plain text. A unix socket is always plain text."""
    reflection: bool = True
    """Whether grpc.reflection tells which services there are."""


class Listener:
    """Services at one address: "host:port", or "unix:PATH" with a socket that only this user can open."""

    def __init__(self, listen: str, access: ListenerAccess) -> None:
        self.listen = listen
        self._access = access
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._services: list[str] = []
        self._grpc: grpc.aio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the start, and for a unix socket."""
        return self._port

    @property
    def address(self) -> str:
        """Where it can be called once it listens, "host:port" or "unix:PATH"."""
        if self.listen.startswith(UNIX):
            return self.listen
        return f"{self.listen.rpartition(':')[0]}:{self._port}"

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of the services added."""
        return tuple(self._services)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Called by the generated add_…_to_server functions."""
        self._handlers += generic_rpc_handlers

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Called by the generated add_…_to_server functions, with handlers that add_generic_rpc_handlers has already
        got.

        They are not registered again, because each call of a registered method waits on one more future in grpc.aio.
        """
        self._services.append(service_name)

    def add_service(self, name: str, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """Adds a service without a generated servicer, as handlers by method name."""
        self._handlers.append(grpc.method_handlers_generic_handler(name, handlers))
        self._services.append(name)

    def open(
        self,
        observers: Sequence[RpcObserver],
        in_flight: InFlight,
        health: health_aio.HealthServicer,
        limit: CallLimit = NO_LIMIT,
        bodies: Bodies | None = None,
    ) -> None:
        """Binds the address. Raises FailedPrecondition if it cannot."""
        interceptor = RpcInterceptor(observers, in_flight, limit, self._access.guard, bodies)
        server = grpc.aio.server(interceptors=(interceptor,), options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers(self._handlers)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        if self._access.reflection:
            own = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
            reflection.enable_server_reflection((*self._services, own, reflection.SERVICE_NAME), server)
        self._port = _bind(server, self.listen, self._access.credentials)
        self._grpc = server

    async def start(self) -> None:
        """Begins to answer."""
        if self._grpc is not None:
            await self._grpc.start()

    async def stop(self, grace_s: float) -> None:
        """Stops answering; calls that still run after `grace_s` seconds are cancelled."""
        if self._grpc is not None:
            await self._grpc.stop(grace_s)


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if listen.startswith(UNIX):
            _bind_unix(server, unix_path(listen))
            return 0
        _try_bind(listen)  # first, because gRPC does not say why it failed, and writes to stderr in its own format
        if credentials is not None:
            return int(server.add_secure_port(listen, credentials))
        return int(server.add_insecure_port(listen))
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise FailedPrecondition(f"cannot listen on {listen}: {why}", reason="CANNOT_LISTEN") from error


def _bind_unix(server: grpc.aio.Server, path: Path) -> None:
    """Binds the socket so that other users cannot connect at any moment. gRPC removes a socket that nobody serves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(os.fspath(path)) == 0:
            raise OSError(0, "another process serves this socket")
    with _private_files():
        server.add_insecure_port(grpc_target(f"{UNIX}{path}"))


@contextmanager
def _private_files() -> Iterator[None]:
    """New files can be opened by this user only while the block runs."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _try_bind(listen: str) -> None:
    """Raises OSError when none of the host's addresses can be bound now."""
    problem: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(*split_host_port(listen), type=socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            problem = error
        else:
            return
    if problem is not None:
        raise problem
