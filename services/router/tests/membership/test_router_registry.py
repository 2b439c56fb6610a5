"""Addresses that come and go, with a resolver of our own."""

import asyncio
import socket

import pytest
from pydantic import ValidationError

from infermesh_router.config.settings import RouterSettings
from infermesh_router.membership.registry import AddressSource, Registry
from infermesh_router.membership.resolver import Resolver, resolve_with_dns
from infermesh_router.membership.target import parse_target


class Names:
    def __init__(self) -> None:
        self.answer: list[str] | OSError = []

    async def __call__(self, host: str, port: int) -> list[str]:
        if isinstance(self.answer, OSError):
            raise self.answer
        return [f"{address}:{port}" for address in self.answer]


def make(*targets: str) -> tuple[Resolver, Names, list[set[str]]]:
    names = Names()
    seen: list[set[str]] = []
    resolver = Resolver(
        [parse_target(t) for t in targets],
        lambda fixed, resolved: seen.append({*fixed, *resolved}),
        interval_s=0.001,
        resolve=names,
    )
    return resolver, names, seen


async def test_endpoints_appear_and_disappear() -> None:
    resolver, names, seen = make("static:1", "dns:///workers:9000")
    for answer in (["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.2"]):
        names.answer = answer
        await resolver.refresh()
    assert seen == [
        {"static:1"},
        {"static:1", "10.0.0.1:9000"},
        {"static:1", "10.0.0.1:9000", "10.0.0.2:9000"},
        {"static:1", "10.0.0.2:9000"},
    ]


async def test_a_resolver_that_fails_takes_nothing_away_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    resolver, names, seen = make("dns:///workers:9000")
    names.answer = ["10.0.0.1"]
    await resolver.refresh()
    names.answer = socket.gaierror(socket.EAI_AGAIN, "try again")
    await resolver.refresh()
    await resolver.refresh()
    assert seen == [{"10.0.0.1:9000"}]
    assert [r.getMessage() for r in caplog.records].count(caplog.records[0].getMessage()) == 1
    assert "cannot resolve workers" in caplog.text


async def test_a_name_that_is_gone_has_no_endpoints() -> None:
    resolver, names, seen = make("dns:///workers:9000")
    names.answer = ["10.0.0.1"]
    await resolver.refresh()
    names.answer = socket.gaierror(socket.EAI_NONAME, "unknown")
    await resolver.refresh()
    assert seen[-1] == set()


async def test_one_name_keeps_nobody_else_from_being_told() -> None:
    """A name with an empty part raised UnicodeError, which ended the resolver before it had told any address."""
    seen: list[set[str]] = []
    never = asyncio.Event()

    async def resolve(host: str, port: int) -> list[str]:
        if host == "bad":
            "worker..svc".encode("idna")
        if host == "slow":
            await never.wait()
        return [f"10.0.0.1:{port}"]

    targets = ["static:1", "dns:///bad:1", "dns:///good:2", "dns:///slow:3"]
    resolver = Resolver(
        [parse_target(target) for target in targets],
        lambda fixed, resolved: seen.append({*fixed, *resolved}),
        resolve=resolve,
    )
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolver.refresh(), 0.05)
    assert seen[-1] == {"static:1", "10.0.0.1:2"}


@pytest.mark.parametrize("target", ["dns:///worker..svc:8083", "worker..svc:8083", "dns:///" + 64 * "x" + ":1"])
def test_a_name_that_can_never_be_resolved_stops_the_start(target: str) -> None:
    with pytest.raises(ValueError, match="cannot be a host name"):
        parse_target(target)


async def test_run_resolves_again_and_again() -> None:
    names = Names()
    seen: asyncio.Queue[tuple[frozenset[str], frozenset[str]]] = asyncio.Queue()
    resolver = Resolver(
        [parse_target("dns:///workers:9000")], lambda *found: seen.put_nowait(found), interval_s=0.001, resolve=names
    )
    task = asyncio.create_task(resolver.run())
    async with asyncio.timeout(5):
        assert await seen.get() == (frozenset(), frozenset())
        names.answer = ["10.0.0.9"]
        assert await seen.get() == (frozenset(), frozenset({"10.0.0.9:9000"}))
        resolver.set_targets([parse_target("b:1")])
        assert await seen.get() == (frozenset({"b:1"}), frozenset())
        resolver.set_targets([parse_target("b:1"), parse_target("dns:///workers:9000")])
        assert await seen.get() == (frozenset({"b:1"}), frozenset({"10.0.0.9:9000"}))
    task.cancel()


def test_an_address_that_came_in_several_ways_stays_until_it_left_in_all_of_them() -> None:
    seen: list[set[str]] = []
    registry = Registry(lambda addresses: seen.append(set(addresses)))
    registry.replace(AddressSource.FILE, ["a:1", "b:1"])
    with registry.registered("a:1"), registry.registered("c:1"), registry.registered("c:1"):
        assert [registry.source_of(address) for address in ("a:1", "b:1", "c:1", "d:1")] == [
            "file",
            "file",
            "registered",
            "",
        ]
        registry.replace(AddressSource.FILE, ["b:1"])
        assert registry.source_of("a:1") == "registered"
        registry.replace(AddressSource.STATIC, ["b:1"])
        assert registry.source_of("b:1") == "static"
    assert seen == [{"a:1", "b:1"}, {"a:1", "b:1", "c:1"}, {"a:1", "b:1"}, {"b:1"}]


async def test_the_systems_resolver() -> None:
    assert "127.0.0.1:5" in await resolve_with_dns("localhost", 5)


@pytest.mark.parametrize("bad", ["host", "host:x", "host:0", "dns:///:1", "dns:///name", "http://h:1", "host:70000"])
def test_bad_workers_stop_the_start(bad: str) -> None:
    with pytest.raises(ValidationError, match="workers"):
        RouterSettings.model_validate({"workers": ("ok:1", bad)})


def test_ipv6() -> None:
    assert parse_target("[::1]:80").address == "[::1]:80"
