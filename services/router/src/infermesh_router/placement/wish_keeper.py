"""Keeps the models loaded that are to stay: loads them again on endpoints that were restarted, or elsewhere."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.placement.placer import LOAD_TIMEOUT_S, Placer, load_on, unload_from
from infermesh_router.placement.wishes import Due, Wish, Wishes
from infermesh_router.policy.filters import fits_device
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.siblings.siblings import Siblings
from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor
from infermesh_runtime.errors import InfermeshError, Unavailable

_log = logging.getLogger(__name__)

INTERVAL_S = 0.5
"""Shortest time between two looks at the endpoints' reports."""
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0


class WishKeeper:
    """Compares the wishes with what the endpoints report, and loads what is missing. Used from one event loop."""

    def __init__(
        self,
        fleet: Fleet,
        placer: Placer,
        *,
        siblings: Siblings | None = None,
        tasks: TaskSupervisor | None = None,
        clock: Callable[[], float] = time.monotonic,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """`siblings`: the other routers of the mesh, which must not load again what was loaded elsewhere."""
        self.wishes = Wishes()
        self.looks = 0
        """How often the endpoints' reports were compared with the wishes."""
        self._fleet = fleet
        self._placer = placer
        self._siblings = siblings or Siblings()
        self._tasks = tasks or TaskSupervisor()
        self._clock = clock
        self._interval_s = interval_s
        self._seen: dict[str, pb.HealthReport] = {}
        """Endpoint → the report that was last taken over."""
        self._loads: dict[Wish, BackgroundTask] = {}

    async def start(self) -> None:
        """Begins to keep the wishes, as a background task."""
        self._tasks.start("wishes", self._run)

    def note_load(self, wanted: Wanted) -> None:
        """Notes that an operator had the model loaded on the requested device."""
        for endpoint in self._fleet.endpoints:
            report, seen = endpoint.last_report, endpoint.snapshot
            if seen.connected and report and wanted.model in seen.ready_models and fits_device(seen, wanted):
                self.wishes.want(endpoint.address, report, wanted.model, device=wanted.device)

    def note_unload(self, model: str, address: str = "") -> bool:
        """Ends what is wanted of the model, on that endpoint or on all; returns whether anything was."""
        return self.wishes.end(model, address)

    async def _run(self) -> None:
        changes = self._fleet.changes
        while True:
            version = changes.version
            wait_s = self._look()
            self.looks += 1
            await asyncio.sleep(self._interval_s)  # changes in between are seen together
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await changes.wait_beyond(version)

    def _look(self) -> float | None:
        """Takes over new reports and begins the loads that are due; returns when to look again without a change."""
        connected = [e for e in self._fleet.endpoints if e.connected and e.last_report is not None]
        for endpoint in connected:
            self._observe(endpoint)
        addresses = {endpoint.address for endpoint in connected}
        self._seen = {address: report for address, report in self._seen.items() if address in addresses}
        now_s, wanted = self._clock(), self.wishes.addresses
        reports = {e.address: e.last_report for e in connected if e.last_report and e.address in wanted}
        models_of = {address: {model.name for model in report.models} for address, report in reports.items()}
        usable = {address for address, report in reports.items() if report.state == pb.ENDPOINT_STATE_READY}
        for due in self.wishes.due(now_s, models_of, usable):
            if due.wish not in self._loads:
                self._begin(due)
        return self.wishes.next_s(now_s)

    def _observe(self, endpoint: Endpoint) -> None:
        report = endpoint.last_report
        if report is not None and self._seen.get(endpoint.address) is not report:
            self._seen[endpoint.address] = report
            self.wishes.observe(endpoint.address, report)

    def _begin(self, due: Due) -> None:
        wish = due.wish
        about = f"{wish.model} on {wish.address}"
        self._loads[wish] = self._tasks.start("wished load", partial(self._load, due), about=about)
        self._loads[wish].on_done(partial(self._loads.pop, wish, None))

    async def _load(self, due: Due) -> None:
        wish = due.wish
        where = "another endpoint, because it is away" if due.elsewhere else "it again"
        _log.info("the model %s is wanted on endpoint %s: loading it on %s", wish.model, wish.address, where)
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                await (self._load_elsewhere(wish) if due.elsewhere else self._load_there(wish))
        except (InfermeshError, TimeoutError) as error:
            pause_s = min(_FIRST_RETRY_S * 2.0 ** min(wish.failures, 10), _LONGEST_RETRY_S)
            wish.failures += 1
            wish.not_before_s = self._clock() + pause_s
            reason = error.message if isinstance(error, InfermeshError) else "it took too long"
            _log.warning("could not load the wanted model %s; next try in %g s: %s", wish.model, pause_s, reason)
        finally:
            self._fleet.changes.notify()

    async def _load_there(self, wish: Wish) -> None:
        try:
            endpoint = self._fleet.get(wish.address)
        except KeyError:
            raise Unavailable(f"Endpoint {wish.address} has left.", reason="NO_ENDPOINT") from None
        await load_on(endpoint, wish.request())
        if wish not in self.wishes:
            _log.info("the model %s is no longer wanted on endpoint %s: unloading it", wish.model, wish.address)
            await unload_from(endpoint, wish.model)

    async def _load_elsewhere(self, wish: Wish) -> None:
        wanted = Wanted(model=wish.model, device=wish.device)
        await self._placer.load(wanted, wish.request())
        if wish in self.wishes:
            self.wishes.drop(wish)
            self.note_load(wanted)
            await self._siblings.forget(wish.model, wish.address)
