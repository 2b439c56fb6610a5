"""Holds the endpoints: creates, follows and closes one for each address."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.breaker import BreakerOptions
from infermesh_router.fleet.changes import Changes
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.frames.turns import Turns
from infermesh_router.policy.snapshot import EndpointSnapshot
from infermesh_router.policy.table import Table
from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor

_FEW = 32
"""Up to this many endpoints, snapshots are refreshed at each report; with more, when somebody asks for them."""


class Fleet:
    """The endpoints, by address. `set_addresses` adds and removes them; `close` closes all."""

    def __init__(
        self,
        *,
        open_channel: Callable[[str], grpc.aio.Channel],
        poll: Callable[[Endpoint], Awaitable[None]],
        on_cache_lost: Callable[[str], None] = lambda _address: None,
        clock: Callable[[], float] = time.monotonic,
        breaker: BreakerOptions | None = None,
        tasks: TaskSupervisor | None = None,
        frames: bool = False,
    ) -> None:
        """`on_cache_lost` gets the address of an endpoint whose prefix cache has become empty.

        `frames`: whether Generate calls go to endpoints in frames.
        """
        self.changes = Changes()
        self._open_channel = open_channel
        self._poll = poll
        self._on_cache_lost = on_cache_lost
        self._clock = clock
        self._breaker = breaker
        self._turns = Turns() if frames else None
        self._endpoints: dict[str, Endpoint] = {}
        self._table = Table()
        self._stale: set[str] = set()
        self._reported = False
        """Whether `_refresh_stale` is about to run."""
        self._tasks = tasks or TaskSupervisor()
        self._pollers: dict[str, BackgroundTask] = {}
        self._leaving: dict[Endpoint, BackgroundTask] = {}

    @property
    def endpoints(self) -> list[Endpoint]:
        """All endpoints, sorted by address."""
        return [self._endpoints[address] for address in sorted(self._endpoints)]

    def ready_on(self, model: str) -> list[str]:
        """The addresses of the connected endpoints on which a model is ready."""
        return [
            endpoint.address
            for endpoint in self.endpoints
            if endpoint.connected and endpoint.last_report is not None and _is_ready(endpoint.last_report, model)
        ]

    @property
    def snapshots(self) -> Table:
        """The snapshot of each endpoint, in the order they joined. Ask again to see later changes."""
        self._refresh_stale()
        return self._table

    def get(self, address: str) -> Endpoint:
        """The endpoint at the address. Raises KeyError."""
        return self._endpoints[address]

    def set_addresses(self, addresses: Iterable[str]) -> None:
        """Follows exactly these addresses. Requests on an endpoint that leaves may finish."""
        wanted = frozenset(addresses)
        for address in sorted(wanted - self._endpoints.keys()):
            self._add(address)
        for address in sorted(self._endpoints.keys() - wanted):
            self._remove(address)
        self._table = Table(endpoint.snapshot for endpoint in self._endpoints.values())
        self.changes.notify()

    async def close(self) -> None:
        """Stops following and closes every connection, which cancels the calls that still run on them."""
        tasks = [*self._pollers.values(), *self._leaving.values()]
        endpoints = [*self._endpoints.values(), *self._leaving]
        self._pollers.clear()
        self._endpoints.clear()
        self._table = Table()
        for task in tasks:
            task.stop()
        for task in tasks:
            await task.wait()
        await asyncio.gather(*(endpoint.close() for endpoint in endpoints))

    def _add(self, address: str) -> None:
        notify = partial(self._note_change, address)
        channel = self._open_channel(address)
        endpoint = Endpoint(
            address,
            channel,
            clock=self._clock,
            notify=notify,
            notify_load=partial(self._note_load, address),
            breaker=self._breaker,
            tasks=self._tasks,
            turns=self._turns,
        )
        self._endpoints[address] = endpoint
        self._pollers[address] = self._tasks.start("poller", partial(self._follow, endpoint), about=address)

    async def _follow(self, endpoint: Endpoint) -> None:
        """Polls the endpoint. If that fails, what is known of it is out of date: nothing is sent to it meanwhile."""
        try:
            await self._poll(endpoint)
        except Exception as error:
            endpoint.note_loss(f"the router failed to follow it: {type(error).__name__}: {error}")
            raise

    def _note_change(self, address: str) -> None:
        if not self._reported and len(self._endpoints) <= _FEW:
            self._reported = True
            asyncio.get_running_loop().call_soon(self._refresh_stale)
        self._stale.add(address)
        self.changes.notify()

    def _note_load(self, address: str) -> None:
        """A request began or ended there. The next request asks for the snapshot: until then it need not be made."""
        self._stale.add(address)
        self.changes.notify()

    def _refresh_stale(self) -> None:
        self._reported = False
        while self._stale:
            address = self._stale.pop()
            if (endpoint := self._endpoints.get(address)) is not None:
                self._refresh(endpoint.snapshot)

    def _refresh(self, snapshot: EndpointSnapshot) -> None:
        before = self._table.at(snapshot.address)
        self._table.update(snapshot)
        if before.ready_models and not snapshot.ready_models:
            self._on_cache_lost(snapshot.address)

    def _remove(self, address: str) -> None:
        endpoint = self._endpoints.pop(address)
        self._on_cache_lost(address)
        self._pollers.pop(address).stop()
        self._leaving[endpoint] = self._tasks.start("farewell", partial(self._close_when_idle, endpoint), about=address)

    async def _close_when_idle(self, endpoint: Endpoint) -> None:
        while endpoint.in_flight:
            await self.changes.wait_beyond(self.changes.version)
        await endpoint.close()
        del self._leaving[endpoint]


def _is_ready(report: pb.HealthReport, model: str) -> bool:
    return any(each.name == model and each.state == pb.ENDPOINT_STATE_READY for each in report.models)
