"""Notices when endpoints join, leave, restart, or change their state, and notes it in the journal."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.journal.journal import Journal
from infermesh_router.mesh.describe import state_of

_LOOK_S = 0.1
"""Shortest time between two looks."""
GONE = "gone"


@dataclass(frozen=True, slots=True)
class _Engine:
    """One model on an endpoint."""

    ready: bool
    tokens: int
    """Generated since its engine process started."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last look saw of an endpoint."""

    report: pb.HealthReport | None
    state: str
    breaker: str
    started_at: tuple[int, int]
    engines: Mapping[str, _Engine]


class Observer:
    """Looks at the fleet after changes."""

    def __init__(self, fleet: Fleet, journal: Journal) -> None:
        self._fleet = fleet
        self._journal = journal
        self._seen: dict[str, _Seen] = {}

    async def run(self) -> None:
        """Looks again and again, until it is cancelled."""
        changes = self._fleet.changes
        while True:
            version = changes.version
            self.look()
            await asyncio.sleep(_LOOK_S)
            await changes.wait_beyond(version)

    def look(self) -> None:
        """Compares the fleet with what it was at the last look."""
        endpoints = self._fleet.endpoints
        for address in self._seen.keys() - {endpoint.address for endpoint in endpoints}:
            before = self._seen.pop(address)
            self._tell_state(address, (GONE, before.breaker), before, "")
        for endpoint in endpoints:
            self._compare(endpoint)

    def _compare(self, endpoint: Endpoint) -> None:
        report, breaker = endpoint.last_report, endpoint.breaker.state.value
        state = state_of(connected=endpoint.connected, report=report)
        before = self._seen.get(endpoint.address)
        if before is not None and before.report is report and (before.state, before.breaker) == (state, breaker):
            return
        now = _Seen(report, state, breaker, _started_at(report), _engines(report, before))
        self._seen[endpoint.address] = now
        if before is None or (before.state, before.breaker) != (state, breaker):
            message = endpoint.last_error or (report.message if report is not None else "")
            self._tell_state(endpoint.address, (state, breaker), before, message)
        if before is not None and before.report is not report:
            self._tell_restarts(endpoint.address, before, now)

    def _tell_state(self, address: str, now: tuple[str, str], before: _Seen | None, message: str) -> None:
        """`now`: its state, and that of its breaker."""
        (state, breaker), (old_state, old_breaker) = now, (before.state, before.breaker) if before else ("", "")
        self._journal.note(
            "state",
            endpoint=address,
            state=state,
            before=old_state,
            breaker=breaker,
            breaker_before=old_breaker,
            message=message,
        )

    def _tell_restarts(self, address: str, before: _Seen, now: _Seen) -> None:
        if any(before.started_at) and before.started_at != now.started_at:
            self._journal.note("restart", endpoint=address, what="worker", model="")
            return
        for model, engine in now.engines.items():
            earlier = before.engines.get(model)
            if earlier is not None and _restarted(earlier, engine):
                self._journal.note("restart", endpoint=address, what="engine", model=model)


def _restarted(before: _Engine, now: _Engine) -> bool:
    """Whether the engine process ended in between: it begins to load again, or to count again."""
    return before.ready and (not now.ready or now.tokens < before.tokens)


def _started_at(report: pb.HealthReport | None) -> tuple[int, int]:
    return (0, 0) if report is None else (report.started_at.seconds, report.started_at.nanos)


def _engines(report: pb.HealthReport | None, before: _Seen | None) -> Mapping[str, _Engine]:
    if report is None:
        return {} if before is None else before.engines
    return {
        model.name: _Engine(model.state == pb.ENDPOINT_STATE_READY, model.load.generated_tokens)
        for model in report.models
    }
