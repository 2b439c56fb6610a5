"""The observer notices what endpoints do by themselves: they come, go, change their state, and start anew."""

import asyncio
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.journal.journal import Journal
from infermesh_router.mesh.observer import Observer

ADDRESS = "h:1"
READY, LOADING = pb.ENDPOINT_STATE_READY, pb.ENDPOINT_STATE_LOADING


class _Channel:
    async def close(self) -> None:
        """Nothing is open."""


async def _poll(_endpoint: Endpoint) -> None:
    await asyncio.Event().wait()


class Watched:
    """A fleet of one endpoint that reports what the test says, and what the observer notes of it."""

    def __init__(self) -> None:
        self.fleet = Fleet(open_channel=lambda _address: _Channel(), poll=_poll)
        self.journal = Journal()
        self._observer = Observer(self.fleet, self.journal)

    def report(self, *, started: int = 1, state: pb.EndpointState = READY, tokens: int = 0) -> None:
        report = pb.HealthReport(state=state)
        report.started_at.seconds = started
        report.models.add(name="m", state=state).load.generated_tokens = tokens
        self.fleet.get(ADDRESS).note_report(report)

    def news(self) -> list[tuple[str, dict[str, Any]]]:
        """What a look adds to the journal."""
        before = self.journal.count
        self._observer.look()
        return [(event.kind, dict(event.data)) for event in self.journal.since(before)]


@pytest.fixture
async def watched() -> Watched:
    made = Watched()
    made.fleet.set_addresses([ADDRESS])
    return made


async def test_states(watched: Watched) -> None:
    (kind, told), *others = watched.news()
    assert (kind, told["state"], told["before"], others) == ("state", "unknown", "", [])
    watched.report()
    assert [(kind, told["state"], told["before"]) for kind, told in watched.news()] == [("state", "ready", "unknown")]
    assert watched.news() == []
    watched.report(tokens=5)
    assert watched.news() == [], "a report alone is no event"
    watched.fleet.get(ADDRESS).note_loss("gone away")
    (_, told), *_ = watched.news()
    assert (told["state"], told["message"]) == ("unreachable", "gone away")
    watched.fleet.set_addresses([])
    (_, told), *_ = watched.news()
    assert (told["endpoint"], told["state"], told["before"]) == (ADDRESS, "gone", "unreachable")
    await watched.fleet.close()


async def test_a_breaker_that_opens_is_told_with_what_it_was(watched: Watched) -> None:
    watched.report()
    watched.news()
    breaker = watched.fleet.get(ADDRESS).breaker
    while breaker.state.value == "closed":
        breaker.fail(probe=breaker.enter())
    ((_, told),) = watched.news()
    assert (told["state"], told["before"]) == ("ready", "ready")
    assert (told["breaker"], told["breaker_before"]) == ("open", "closed")


async def test_a_worker_that_starts_anew(watched: Watched) -> None:
    watched.report(tokens=50)
    watched.news()
    watched.fleet.get(ADDRESS).note_loss("killed")
    watched.news()
    watched.report(started=2)
    restarts = [told for kind, told in watched.news() if kind == "restart"]
    assert [(told["endpoint"], told["what"], told["model"]) for told in restarts] == [(ADDRESS, "worker", "")]
    watched.report(started=2, tokens=1)
    assert watched.news() == []
    await watched.fleet.close()


@pytest.mark.parametrize("seen_loading", [True, False])
async def test_an_engine_that_starts_anew(watched: Watched, seen_loading: bool) -> None:
    watched.report(tokens=50)
    watched.news()
    found = []
    if seen_loading:
        watched.report(state=LOADING, tokens=50)
        found += watched.news()
    watched.report(tokens=0)
    found += watched.news()
    restarts = [told for kind, told in found if kind == "restart"]
    assert [(told["what"], told["model"]) for told in restarts] == [("engine", "m")]
    await watched.fleet.close()
