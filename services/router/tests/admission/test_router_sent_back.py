"""A request that an endpoint sends back keeps its place, and waits where waiting would serve it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.admission import Admission
from infermesh_router.admission.model_queue import AdmissionLimits
from infermesh_router.admission.pending_call import PendingCall
from infermesh_router.admission.waiting_bytes import COPIES
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.testing.admission import Mesh, ask, settle, until
from infermesh_runtime.errors import ResourceExhausted, Unavailable


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    mesh = Mesh()
    yield mesh
    await mesh.fleet.close()


def log_to(order: list[str], admission: Admission, pending: PendingCall) -> "asyncio.Task[None]":
    """Admits the call, writes its client down and lets the next one go."""

    async def run() -> None:
        with await admission.admit(pending):
            order.append(pending.client)

    return asyncio.create_task(run())


async def test_it_goes_before_those_that_came_later_and_is_not_charged_twice(mesh: Mesh) -> None:
    mesh.add("a:1")
    held = await mesh.admit()
    returning = mesh.arrive(ask("a"))
    first = asyncio.create_task(mesh.admission.admit(returning))
    await settle()
    order: list[str] = []
    later = [log_to(order, mesh.admission, mesh.arrive(ask(client))) for client in ("a", "b", "a", "b")]
    await until(lambda: mesh.admission.waiting == 5)
    held.release()
    grant = await first
    grant.endpoint.note_sent_back(grant.lease.model)
    grant.release()
    again = log_to(order, mesh.admission, returning)
    await until(lambda: mesh.admission.waiting == 5)
    await settle()
    assert order == []  # the endpoint is taken as full although nothing runs there
    mesh.report("a:1")
    await asyncio.gather(again, *later)
    assert order == ["a", "b", "a", "b", "a"]
    assert mesh.is_idle()


async def test_it_keeps_its_place_in_a_full_queue() -> None:
    mesh = Mesh(limits=lambda _model: AdmissionLimits(max_waiting=1))
    mesh.add("a:1")
    returning = mesh.arrive(ask("a"))
    grant = await mesh.admission.admit(returning)
    waiting = asyncio.create_task(mesh.admit(ask("b")))
    await until(lambda: mesh.admission.waiting == 1)
    grant.endpoint.note_sent_back("m")
    grant.release()
    again = asyncio.create_task(mesh.admission.admit(returning))
    await until(lambda: mesh.admission.waiting == 2)
    with pytest.raises(ResourceExhausted):
        await mesh.admit(ask("c"))
    mesh.report("a:1")
    (await again).release()
    (await waiting).release()
    assert mesh.is_idle()
    await mesh.fleet.close()


async def test_an_endpoint_that_reports_nothing_more_is_asked_again(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infermesh_router.fleet.endpoint.MOST_FULL_S", 0.05)
    mesh.add("a:1", room=4)
    mesh.fleet.get("a:1").note_sent_back("m")
    grant = asyncio.create_task(mesh.admit())
    await asyncio.sleep(0)
    assert not grant.done()
    (await grant).release()


async def test_only_the_model_that_was_sent_back_is_full(mesh: Mesh) -> None:
    mesh.add("a:1", models=("m", "n"), room=4)
    mesh.fleet.get("a:1").note_sent_back("n")
    with await mesh.admit():
        pass


def loading(endpoint: Endpoint) -> None:
    endpoint.note_report(
        pb.HealthReport(
            state=pb.ENDPOINT_STATE_LOADING, models=[pb.ModelStatus(name="m", state=pb.ENDPOINT_STATE_LOADING)]
        )
    )


async def test_a_burst_waits_for_an_endpoint_that_loads(mesh: Mesh) -> None:
    mesh.add("a:1")
    loading(mesh.fleet.get("a:1"))
    tasks = [asyncio.create_task(mesh.admit()) for _ in range(20)]
    await until(lambda: mesh.admission.waiting == 20)
    mesh.clock.now_s += 600  # a load may take long
    mesh.fleet.changes.notify()
    await settle()
    mesh.report("a:1", room=20)
    for grant in await asyncio.gather(*tasks):
        grant.release()
    assert mesh.is_idle()


async def test_a_burst_waits_for_the_probe_of_a_half_open_breaker(mesh: Mesh) -> None:
    mesh.add("a:1", room=20)
    breaker = mesh.fleet.get("a:1").breaker
    for _ in range(5):
        breaker.fail(probe=breaker.enter())
    with pytest.raises(Unavailable):  # an open breaker refuses at once: that is what it is for
        await mesh.admit()
    mesh.clock.now_s += 10
    mesh.fleet.get("a:1").note_error("time makes it half-open")
    probe = await mesh.admit()
    assert breaker.enter()
    tasks = [asyncio.create_task(mesh.admit()) for _ in range(10)]
    await until(lambda: mesh.admission.waiting == 10)
    breaker.succeed(probe=True)
    for grant in (probe, *await asyncio.gather(*tasks)):
        grant.release()
    assert mesh.is_idle()


async def test_queues_are_bounded_in_bytes_as_well() -> None:
    call = ask(text="x" * 10_000)
    mesh = Mesh(most_bytes=lambda: COPIES * int(2.5 * len(call.body)))
    mesh.add("a:1")
    held = await mesh.admit()
    tasks = [asyncio.create_task(mesh.admit(call)) for _ in range(2)]
    await until(lambda: mesh.admission.waiting == 2)
    with pytest.raises(ResourceExhausted, match="hold as much as they may") as caught:
        await mesh.admit(call)
    assert (caught.value.reason, bool(caught.value.retry_after_s)) == ("QUEUE_FULL", True)
    assert mesh.shed("QUEUE_FULL") == 1
    small = asyncio.create_task(mesh.admit(ask()))
    resumed = asyncio.create_task(mesh.admit(call, resumed=True))
    await until(lambda: mesh.admission.waiting == 4)
    held.release()
    for task in (resumed, *tasks, small):
        (await task).release()
    assert mesh.is_idle()
    assert mesh.admission._room._bytes.held_bytes == 0
    await mesh.fleet.close()


async def test_a_hedge_never_waits_and_takes_no_place_from_those_who_do(mesh: Mesh) -> None:
    mesh.add("a:1")
    mesh.add("b:1")
    pending = mesh.arrive()
    first = await mesh.admission.admit(pending)
    tried = frozenset({first.endpoint.address})
    hedge = mesh.admission.admit_now(pending, tried)
    assert hedge is not None
    assert hedge.endpoint.address not in tried
    assert mesh.admission.admit_now(pending, tried) is None  # both are full
    waiting = asyncio.create_task(mesh.admit())
    await settle()
    hedge.endpoint.release(hedge.lease)
    assert mesh.admission.admit_now(pending, tried) is None  # somebody waits for it
    (await waiting).release()
    first.release()
    await settle()
    assert mesh.is_idle()
