"""The gRPC server of a service: starts its parts, opens the port, reports health, and stops in order on a signal.

Services add their servicers and parts to it.
"""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from infermesh_runtime.errors import Unavailable
from infermesh_runtime.processes.process import handled_signals
from infermesh_runtime.rpc.in_flight import InFlight
from infermesh_runtime.rpc.interceptor import RpcObserver, log_access
from infermesh_runtime.rpc.limits.body_budget import Bodies
from infermesh_runtime.rpc.limits.call_limit import NO_LIMIT, CallLimit
from infermesh_runtime.rpc.listener import Listener, ListenerAccess
from infermesh_runtime.settings import split_host_port

ENDLESS_METHODS = frozenset(
    {
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/infermesh.inference.v1.InferenceService/WatchHealth",
        "/infermesh.inference.v1.InferenceService/GenerateMany",
        "/infermesh.admin.v1.AdminService/WatchEndpoints",
        "/infermesh.mesh.v1.MeshService/WatchEvents",
        "/infermesh.admin.v1.AdminService/RegisterEndpoint",
        "/infermesh.admin.v1.AdminService/WatchRouter",
    }
)
"""Streams that run until their client leaves; a stop does not wait for them."""
LIVE = "live"
"""Name in grpc.health.v1 that is SERVING from the opening of the port to the stop, also while models load. Probes that
restart a process ask for it; "" says whether requests are served."""
GRACE_S = 0.25
"""How long the last statuses may take to reach their clients, once only endless streams run."""
GC_THRESHOLD = (10_000, 20, 20)
"""How many objects are made between collections. A request makes hundreds that its end frees without a collection: by
default, each request pays for one, which was an eighth of its conversion's time."""

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
    and parts with `add_part`. The health of every service is NOT_SERVING until `set_serving`, except that of `LIVE`.
    """

    def __init__(
        self,
        *,
        listen: str,
        drain_s: float,
        observers: Sequence[RpcObserver] = (log_access,),
        limit: CallLimit = NO_LIMIT,
        access: ListenerAccess | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        """`limit` bounds the calls in progress, `bodies` the memory that requests take; None: nothing does."""
        self._limit = limit
        self._bodies = bodies
        self._main = Listener(listen, access or ListenerAccess())
        self._listeners = [self._main]
        self._drain_s = drain_s
        self._observers = tuple(observers)
        self._parts: list[ServerPart] = []
        self._started: list[ServerPart] = []
        self._in_flight = InFlight(ENDLESS_METHODS)
        self._health = health_aio.HealthServicer()
        self._stop_requested = asyncio.Event()

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the start."""
        return self._main.port

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Where it listens: the address it was made with, then those added."""
        return tuple(self._listeners)

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of the services added, to all listeners."""
        return tuple(dict.fromkeys(name for listener in self._listeners for name in listener.services))

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Called by the generated add_…_to_server functions."""
        self._main.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Called by the generated add_…_to_server functions."""
        self._main.add_registered_method_handlers(service_name, method_handlers)

    def add_service(self, name: str, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """Adds a service without a generated servicer, as handlers by method name."""
        self._main.add_service(name, handlers)

    def add_listener(self, listen: str, access: ListenerAccess | None = None) -> Listener:
        """Adds another address ("host:port" or "unix:PATH"), to whose listener services of its own are added."""
        listener = Listener(listen, access or ListenerAccess())
        self._listeners.append(listener)
        return listener

    def add_part(self, part: ServerPart) -> None:
        """Adds a part. Parts start in the order they were added, drain together, and close in reverse order."""
        self._parts.append(part)

    async def set_serving(self, serving: bool, *services: str) -> None:
        """Sets the health of `services`; without names, of all services and of the server itself ("").

        Does nothing once the server stops.
        """
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if serving else states.NOT_SERVING
        for name in services or ("", *self.services):
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
            for listener in self._listeners:
                listener.open(self._observers, self._in_flight, self._health, self._limit, self._bodies)
            await self._start_listeners()
            await self._health.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
            for part in self._parts:
                if part.listening is not None:
                    await part.listening()
        except BaseException:
            await asyncio.gather(*(listener.stop(0) for listener in self._listeners))
            await self._close_parts()
            raise
        return self.port

    async def stop(self) -> None:
        """Sets health to NOT_SERVING, drains for at most drain_s, stops the server and closes the parts.

        Calls that still run then end with UNAVAILABLE, so that no stream ends as if it were complete.
        """
        await self._health.enter_graceful_shutdown()
        await self._drain()
        await self._end_calls()
        await asyncio.gather(*(listener.stop(GRACE_S) for listener in self._listeners))
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
                gc.set_threshold(*GC_THRESHOLD)
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

    async def _start_listeners(self) -> None:
        for listener in self._listeners:
            await listener.start()
            host = {"host": split_host_port(listener.listen)[0]} if listener is self._main else {"at": listener.address}
            logger.info("listening", extra={**host, "port": listener.port})

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

    async def _end_calls(self) -> None:
        await self._wait_idle_shortly()  # parts whose drain was cut short have just ended theirs
        self._in_flight.end(
            Unavailable("The server stopped before this request finished.", reason="SERVER_STOPPED", retry_after_s=1.0)
        )
        await self._wait_idle_shortly()

    async def _wait_idle_shortly(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self._in_flight.wait_idle()

    async def _close_parts(self) -> None:
        while self._started:
            part = self._started.pop()
            if part.close is None:
                continue
            try:
                await part.close()
            except Exception:
                logger.exception("a part failed to close", extra={"part": part.name})
