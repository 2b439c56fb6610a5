"""Addresses that come and go, with a resolver of our own."""

import asyncio
import socket

import pytest
from pydantic import ValidationError

from infermesh_router.registry import Registry, resolve_with_dns
from infermesh_router.settings import RouterSettings
from infermesh_router.target import parse_target


class Resolver:
    def __init__(self) -> None:
        self.answer: list[str] | OSError = []

    async def __call__(self, host: str, port: int) -> list[str]:
        if isinstance(self.answer, OSError):
            raise self.answer
        return [f"{address}:{port}" for address in self.answer]


def make(*targets: str) -> tuple[Registry, Resolver, list[set[str]]]:
    resolver, seen = Resolver(), []
    registry = Registry(
        [parse_target(t) for t in targets], lambda a: seen.append(set(a)), interval_s=0.001, resolve=resolver
    )
    return registry, resolver, seen


async def test_endpoints_appear_and_disappear() -> None:
    registry, resolver, seen = make("static:1", "dns:///workers:9000")
    for answer in (["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.2"]):
        resolver.answer = answer
        await registry.refresh()
    assert seen == [
        {"static:1", "10.0.0.1:9000"},
        {"static:1", "10.0.0.1:9000", "10.0.0.2:9000"},
        {"static:1", "10.0.0.2:9000"},
    ]


async def test_a_resolver_that_fails_takes_nothing_away_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    registry, resolver, seen = make("dns:///workers:9000")
    resolver.answer = ["10.0.0.1"]
    await registry.refresh()
    resolver.answer = socket.gaierror(socket.EAI_AGAIN, "try again")
    await registry.refresh()
    await registry.refresh()
    assert seen == [{"10.0.0.1:9000"}]
    assert [r.getMessage() for r in caplog.records].count(caplog.records[0].getMessage()) == 1
    assert "cannot resolve workers" in caplog.text


async def test_a_name_that_is_gone_has_no_endpoints() -> None:
    registry, resolver, seen = make("dns:///workers:9000")
    resolver.answer = ["10.0.0.1"]
    await registry.refresh()
    resolver.answer = socket.gaierror(socket.EAI_NONAME, "unknown")
    await registry.refresh()
    assert seen[-1] == set()


async def test_run_resolves_again_and_again() -> None:
    resolver, seen = Resolver(), asyncio.Queue()
    registry = Registry([parse_target("dns:///workers:9000")], seen.put_nowait, interval_s=0.001, resolve=resolver)
    task = asyncio.create_task(registry.run())
    async with asyncio.timeout(5):
        assert await seen.get() == set()
        resolver.answer = ["10.0.0.9"]
        assert await seen.get() == {"10.0.0.9:9000"}
    task.cancel()


async def test_the_systems_resolver() -> None:
    assert "127.0.0.1:5" in await resolve_with_dns("localhost", 5)


@pytest.mark.parametrize("bad", ["host", "host:x", "host:0", "dns:///:1", "dns:///name", "http://h:1", "host:70000"])
def test_bad_workers_stop_the_start(bad: str) -> None:
    with pytest.raises(ValidationError, match="workers"):
        RouterSettings(workers=("ok:1", bad))


def test_ipv6() -> None:
    assert parse_target("[::1]:80").address == "[::1]:80"
