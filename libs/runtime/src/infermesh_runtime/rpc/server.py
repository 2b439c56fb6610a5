"""The gRPC server of a service: starts its parts, opens the port, reports health, and stops in order on a signal.

Services add their servicers and parts to it.
"""

import asyncio
import gc
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.process import handled_signals
from infermesh_runtime.rpc.body_budget import Bodies
from infermesh_runtime.rpc.in_flight import InFlight
from infermesh_runtime.rpc.interceptor import RpcInterceptor, RpcObserver, log_access
from infermesh_runtime.rpc.options import SERVER_OPTIONS
from infermesh_runtime.settings import split_host_port

ENDLESS_METHODS = frozenset(
    {
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/infermesh.inference.v1.InferenceService/WatchHealth",
        "/infermesh.admin.v1.AdminService/WatchEndpoints",
        "/infermesh.admin.v1.AdminService/RegisterEndpoint",
    }
)
"""Streams that run until their client leaves; a stop does not wait for them."""
GRACE_S = 0.25
"""How long the last statuses may take to reach their clients, once only endless streams run."""

Callback = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPart:
    """Something that lives as long as the server: an engine, a registry, a metrics endpoint."""

    name: str
    start: Callback | None = None
    """Called before the port opens. An error aborts the start."""
    listening: Callback | None = None
    """Called once the port is open, for a part that reports health or registers. An error aborts the start."""
    drain: Callback | None = None
    """Called at the stop, while the server still answers. Returns when its work is done; cancelled after drain_s."""
    close: Callback | None = None
    """Called after the server has stopped, if `start` succeeded."""


class Server:
    """A gRPC server with its parts, grpc.health.v1 and reflection.

    Before the start, add servicers as to gRPC's own server (`add_InferenceServiceServicer_to_server(servicer, server)`)
    and parts with `add_part`. The health of every service is NOT_SERVING until `set_serving`.
    """

    def __init__(
        self,
        *,
        listen: str,
        drain_s: float,
        observers: Sequence[RpcObserver] = (log_access,),
        bodies: Bodies | None = None,
    ) -> None:
        """`bodies` bounds the memory that requests take; None: nothing does."""
        self._bodies = bodies
        self._listen = listen
        self._drain_s = drain_s
        self._observers = tuple(observers)
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._services: list[str] = []
        self._parts: list[ServerPart] = []
        self._started: list[ServerPart] = []
        self._in_flight = InFlight(ENDLESS_METHODS)
        self._health = health_aio.HealthServicer()
        self._stop_requested = asyncio.Event()
        self._grpc: grpc.aio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the start."""
        return self._port

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

    def add_part(self, part: ServerPart) -> None:
        """Adds a part. Parts start in the order they were added, drain together, and close in reverse order."""
        self._parts.append(part)

    async def set_serving(self, serving: bool, *services: str) -> None:
        """Sets the health of `services`; without names, of all services and of the server itself ("").

        Does nothing once the server stops.
        """
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if serving else states.NOT_SERVING
        for name in services or ("", *self._services):
            await self._health.set(name, state)

    async def start(self) -> int:
        """Starts the parts, opens the port and returns it.

        Raises FailedPrecondition when the address cannot be bound, and what a part raises; in both cases it first
        closes the parts that had started.
        """
        try:
            for part in self._parts:
                if part.start is not None:
                    await part.start()
                self._started.append(part)
            await self.set_serving(False)
            self._grpc = self._build()
            self._port = _bind(self._grpc, self._listen)
            await self._grpc.start()
            logger.info("listening", extra={"host": split_host_port(self._listen)[0], "port": self._port})
            for part in self._parts:
                if part.listening is not None:
                    await part.listening()
        except BaseException:
            await self._close_parts()
            raise
        return self._port

    async def stop(self) -> None:
        """Sets health to NOT_SERVING, drains for at most drain_s, stops the server and closes the parts."""
        await self._health.enter_graceful_shutdown()
        await self._drain()
        if self._grpc is not None:
            await self._grpc.stop(GRACE_S)
        await self._close_parts()
        logger.info("stopped")

    def request_stop(self) -> None:
        """Stops `serve_until_stopped`, as a signal does."""
        self._stop_requested.set()

    async def serve_until_stopped(self) -> None:
        """Starts, serves until SIGTERM, SIGINT or `request_stop`, and stops. A second signal ends the process at once.

        Raises what `start` raises. A signal during the start aborts it and closes the parts that had started.
        """
        with handled_signals(self._stop_requested.set):
            if await self._start_unless_stopped():
                gc.collect()
                gc.freeze()  # what is loaded now stays, so later collections need not scan it
                await self._stop_requested.wait()
                logger.info("stopping", extra={"in_flight": self._in_flight.count})
                await self.stop()

    async def _start_unless_stopped(self) -> bool:
        starting = asyncio.ensure_future(self.start())
        stopping = asyncio.ensure_future(self._stop_requested.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.wait((starting,))
            return not starting.cancelled() and bool(await starting)
        finally:
            stopping.cancel()

    def _build(self) -> grpc.aio.Server:
        interceptor = RpcInterceptor(self._observers, self._in_flight, self._bodies)
        server = grpc.aio.server(interceptors=(interceptor,), options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers(self._handlers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*self._services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server

    async def _drain(self) -> None:
        drains = [part.drain() for part in self._parts if part.drain is not None and part in self._started]
        try:
            async with asyncio.timeout(self._drain_s):
                for result in await asyncio.gather(*drains, return_exceptions=True):
                    if isinstance(result, BaseException):
                        logger.error("a part failed to drain", exc_info=result)
                await self._in_flight.wait_idle()
        except TimeoutError:
            logger.warning(
                "stopped draining: drain_s has passed",
                extra={"drain_s": self._drain_s, "in_flight": self._in_flight.count},
            )

    async def _close_parts(self) -> None:
        while self._started:
            part = self._started.pop()
            if part.close is None:
                continue
            try:
                await part.close()
            except Exception:
                logger.exception("a part failed to close", extra={"part": part.name})


def _bind(server: grpc.aio.Server, listen: str) -> int:
    try:
        _try_bind(listen)  # first, because gRPC does not say why it failed, and writes to stderr in its own format
        return int(server.add_insecure_port(listen))
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise FailedPrecondition(f"cannot listen on {listen}: {why}", reason="CANNOT_LISTEN") from error


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
