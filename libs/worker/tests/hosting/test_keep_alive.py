"""When an idle model's keep-alive time is over."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from infermesh_worker.hosting.hosted_model import HostedModel, Retention
from infermesh_worker.hosting.keep_alive import KeepAlive

KEEP_S = 0.05


@dataclass
class Hosted:
    """What KeepAlive reads of a hosted model, on the event loop's clock."""

    retention: Retention
    in_use: bool = False
    last_used_s: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    looked: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    @property
    def idle_s(self) -> float:
        self.looked.put_nowait(None)
        return 0.0 if self.in_use else asyncio.get_running_loop().time() - self.last_used_s

    @property
    def overdue(self) -> bool:
        return not self.in_use and self.idle_s >= self.retention.keep_alive_s


def armed(**retention: Any) -> tuple[Hosted, KeepAlive, asyncio.Event]:
    hosted, expired = Hosted(Retention(**{"pinned": False, "keep_alive_s": KEEP_S} | retention)), asyncio.Event()
    keep_alive = KeepAlive(cast(HostedModel, hosted), expired.set)
    keep_alive.arm()
    return hosted, keep_alive, expired


async def test_time_is_over_when_it_was_idle_for_so_long() -> None:
    hosted, _, expired = armed()
    await asyncio.wait_for(expired.wait(), 10)
    assert asyncio.get_running_loop().time() - hosted.last_used_s >= KEEP_S


async def test_model_in_use_is_looked_at_again_and_its_time_counts_from_its_last_request() -> None:
    hosted, _, expired = armed()
    hosted.in_use = True
    while not hosted.looked.empty():
        hosted.looked.get_nowait()
    await asyncio.wait_for(hosted.looked.get(), 10)
    assert not expired.is_set()
    hosted.in_use, hosted.last_used_s = False, asyncio.get_running_loop().time()
    await asyncio.wait_for(expired.wait(), 10)
    assert asyncio.get_running_loop().time() - hosted.last_used_s >= KEEP_S


async def test_pinned_models_and_those_without_a_time_are_never_looked_at() -> None:
    for retention in ({"pinned": True}, {"keep_alive_s": 0.0}):
        hosted, _, expired = armed(**retention)
        assert hosted.looked.empty()
        assert not expired.is_set()


async def test_stopped_timer_does_not_fire() -> None:
    _, keep_alive, expired = armed()
    _, _, other = armed()
    keep_alive.stop()
    await asyncio.wait_for(other.wait(), 10)
    assert not expired.is_set()
