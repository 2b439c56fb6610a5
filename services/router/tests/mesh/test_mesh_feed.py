"""Listeners get the kept events, snapshots, and what they may see; a slow one loses events and takes no memory."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh_router.fleet.changes import Changes
from infermesh_router.journal.journal import Journal
from infermesh_router.journal.positions import read_positions
from infermesh_router.mesh.feed import Feed
from infermesh_router.mesh.view import MeshView
from infermesh_router.mesh.viewer import Viewer
from infermesh_router.policy.choice import Choice
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.testing.keys import key_of
from infermesh_runtime.errors import ResourceExhausted

EVERYBODY = Viewer(None, manages=True)


@dataclass
class Listed:
    """A listing that the test writes, and that counts how often it is asked."""

    asked: int = 0
    count: int = 1
    waiting: list[admin.ModelQueue] = field(default_factory=list)

    async def of_all(self) -> admin.ListEndpointsResponse:
        self.asked += 1
        return admin.ListEndpointsResponse(endpoints=[admin.Endpoint(address="h:1")] * self.count, queues=self.waiting)

    def queues(self) -> list[admin.ModelQueue]:
        return self.waiting


@dataclass
class Fed:
    """A feed with short times, and what it is made of."""

    listed: Listed = field(default_factory=Listed)
    changes: Changes = field(default_factory=Changes)
    journal: Journal = field(default_factory=lambda: Journal(kept=5))

    def feed(self, **options: Any) -> Feed:
        view = MeshView(self.listed, changes=self.changes, queue_limit=lambda _model: 7)  # type: ignore[arg-type]
        return Feed(self.journal, view, **{"snapshot_s": 0.02, "quiet_s": 30.0, **options})

    def choose(self, name: str, *, client: str = "", model: str = "m") -> None:
        self.journal.chosen(name, Wanted(model=model, client=client), Choice("h:1", "equal"))


def read(block: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The events of a block."""
    lines = [event for event in block.decode().split("\n\n") if event and not event.startswith("id: ")]
    parted = [event.partition("\ndata: ") for event in lines]
    return [(kind.partition("\n")[0].removeprefix("event: "), json.loads(data)) for kind, _, data in parted]


def last_id(block: bytes) -> str:
    return next(line for line in reversed(block.decode().splitlines()) if line.startswith("id: ")).removeprefix("id: ")


async def next_of(stream: AsyncIterator[bytes]) -> list[tuple[str, dict[str, Any]]]:
    async with asyncio.timeout(10):
        return read(await anext(stream))


@pytest.fixture
def fed() -> Fed:
    return Fed()


async def test_the_kept_events_come_first_then_a_snapshot(fed: Fed) -> None:
    for number in range(9):
        fed.choose(str(number))
    fed.listed.waiting.append(admin.ModelQueue(model="m", waiting=2, oldest_ms=1500))
    first = await next_of(fed.feed().follow(EVERYBODY))
    assert [(kind, told.get("request_id")) for kind, told in first] == [
        *(("choice", str(number)) for number in range(4, 9)),
        ("snapshot", None),
    ]
    snapshot = first[-1][1]
    assert [endpoint["address"] for endpoint in snapshot["endpoints"]] == ["h:1"]
    assert snapshot["queues"] == [{"model": "m", "waiting": 2, "oldest_s": 1.5, "limit": 7}]


async def test_who_comes_back_gets_what_it_has_not_had(fed: Fed) -> None:
    """And nothing twice; what is not kept any more is told as lost."""
    stream, feed = fed.feed().follow(EVERYBODY), fed.feed()
    fed.choose("had")
    had = read_positions(last_id(await anext(stream)))
    fed.choose("new")
    back = await next_of(feed.follow(EVERYBODY, had))
    assert [told.get("request_id", kind) for kind, told in back] == ["new", "snapshot"]
    for number in range(8):
        fed.choose(str(number))
    late = await next_of(feed.follow(EVERYBODY, had))
    assert [told.get("request_id", kind) for kind, told in late] == ["lost", "3", "4", "5", "6", "7", "snapshot"]
    assert late[0][1] == {"events": 4}


async def test_an_id_of_another_journal_or_of_later_is_no_harm(fed: Fed) -> None:
    fed.choose("a")
    for had in ({"another": 7}, {fed.journal.name: 99}, read_positions("nonsense, or more")):
        first = await next_of(fed.feed().follow(EVERYBODY, had))
        assert [kind for kind, _ in first] == [*(() if fed.journal.name in had else ("choice",)), "snapshot"]


async def test_another_router_goes_on_where_its_listener_was(fed: Fed) -> None:
    fed.choose("had")
    fed.choose("new")
    events = fed.feed().follow_events(EVERYBODY, kept=False, after={fed.journal.name: 1})
    assert await anext(events) == f"id: {fed.journal.name}-1\n\n".encode()
    assert [told["request_id"] for _, told in await next_of(events)] == ["new"]
    of_an_older_version = fed.feed().follow_events(EVERYBODY, kept=True)
    await anext(of_an_older_version)
    assert [told["request_id"] for _, told in await next_of(of_an_older_version)] == ["had", "new"]


async def test_a_key_comes_past_the_events_of_others(fed: Fed) -> None:
    """What it may not see moves it on all the same: else it would be told at each return that it lost those."""
    viewer = Viewer(key_of("a"), manages=False)
    streams = [fed.feed(snapshot_s=30.0).follow(viewer), fed.feed().follow_events(viewer, kept=True)]
    fed.choose("mine", client="key a")
    for stream in streams:
        await anext(stream)
    assert [told["request_id"] for _, told in await next_of(streams[1])] == ["mine"]
    for number in range(4):
        fed.choose(str(number), client="key b")
    for stream in streams:
        async with asyncio.timeout(10):
            assert await anext(stream) == f"id: {fed.journal.name}-5\n\n".encode()


async def test_how_many_events_of_others_were_lost_is_told_to_those_alone_who_see_them(fed: Fed) -> None:
    for number in range(9):
        fed.choose(str(number), client="key b")
    had = {fed.journal.name: 1}
    for viewer, lost in (
        (Viewer(key_of("a"), manages=False), {}),
        (Viewer(key_of("a", models=["m"]), manages=True), {}),
        (Viewer(key_of("boss"), manages=True), {"events": 3}),
    ):
        assert (await next_of(fed.feed().follow(viewer, had)))[0] == ("lost", lost)


async def test_events_and_snapshots_follow(fed: Fed) -> None:
    stream = fed.feed().follow(EVERYBODY)
    await next_of(stream)
    fed.choose("a")
    assert [kind for kind, _ in await next_of(stream)] == ["choice"]
    fed.changes.notify()
    assert [kind for kind, _ in await next_of(stream)] == ["snapshot"]


async def test_without_changes_a_snapshot_comes_now_and_then(fed: Fed) -> None:
    stream = fed.feed(quiet_s=0.1).follow(EVERYBODY)
    await next_of(stream)
    assert [kind for kind, _ in await next_of(stream)] == ["snapshot"]


async def test_a_slow_listener_is_told_what_it_lost(fed: Fed) -> None:
    stream = fed.feed().follow(EVERYBODY)
    await next_of(stream)
    for number in range(12):
        fed.choose(str(number))
    late = await next_of(stream)
    assert late[0] == ("lost", {"events": 7})
    assert [told["request_id"] for _, told in late[1:]] == ["7", "8", "9", "10", "11"]


async def test_listeners_share_snapshots(fed: Fed) -> None:
    feed = fed.feed(snapshot_s=10.0)
    streams = [feed.follow(EVERYBODY) for _ in range(5)]
    await asyncio.gather(*(next_of(stream) for stream in streams))
    assert fed.listed.asked == 1
    assert feed.listeners == 5


async def test_the_number_of_listeners_is_bounded(fed: Fed) -> None:
    feed = fed.feed(most_listeners=1)
    first, second = feed.follow(EVERYBODY), feed.follow(EVERYBODY)
    await next_of(first)
    with pytest.raises(ResourceExhausted, match="1 listeners"):
        await anext(second)
    await first.aclose()
    await next_of(feed.follow(EVERYBODY))


async def test_places_are_kept_for_those_who_manage(fed: Fed) -> None:
    feed, guest = fed.feed(most_listeners=8), Viewer(None, manages=False)
    guests = [feed.follow(guest) for _ in range(7)]
    for each in guests:
        await next_of(each)
    with pytest.raises(ResourceExhausted, match="7 listeners"):
        await anext(feed.follow(guest))
    await next_of(feed.follow(EVERYBODY))


async def test_a_key_sees_its_own_requests_and_models(fed: Fed) -> None:
    fed.choose("mine", client="key a")
    fed.choose("other", client="key b")
    fed.choose("hidden", client="key a", model="secret")
    fed.journal.note("state", endpoint="h:1", state="ready", before="", breaker="closed", message="")

    async def seen(viewer: Viewer) -> list[object]:
        return [told.get("request_id", kind) for kind, told in await next_of(fed.feed().follow(viewer))]

    key = key_of("a", models=["m"])
    assert await seen(Viewer(key, manages=False)) == ["mine", "state", "snapshot"]
    assert await seen(Viewer(key_of("boss"), manages=True)) == ["mine", "other", "hidden", "state", "snapshot"]


async def test_many_endpoints_are_described_in_a_thread(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def describe(listed: Sequence[admin.Endpoint], *_: object) -> list[object]:
        threads.append(threading.current_thread().name)
        return [None] * len(listed)

    monkeypatch.setattr("infermesh_router.mesh.view.describe_endpoints", describe)
    monkeypatch.setattr("infermesh_router.mesh.view.to_json", lambda _message: {})
    fed.listed.count = 100
    await next_of(fed.feed().follow(EVERYBODY))
    assert threads != [threading.main_thread().name]
