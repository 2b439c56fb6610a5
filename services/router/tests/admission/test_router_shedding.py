"""Which requests are refused instead of waiting, what they are told, and when a wait ends without an endpoint."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from infermesh_router.admission.model_queue import AdmissionLimits
from infermesh_router.testing.admission import Mesh, ask, settle, until
from infermesh_runtime.errors import DeadlineExceeded, DeviceNotAvailable, ModelNotFound, ResourceExhausted, Unavailable


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    mesh = Mesh()
    yield mesh
    await mesh.fleet.close()


async def test_a_full_queue_refuses_with_a_time_to_retry() -> None:
    mesh = Mesh(limits=lambda _model: AdmissionLimits(max_waiting=3))
    mesh.add("a:1")
    held = await mesh.admit()
    tasks = [asyncio.create_task(mesh.admit(ask("a"))) for _ in range(3)]
    await until(lambda: mesh.admission.waiting == 3)
    with pytest.raises(ResourceExhausted, match=r"queue for model 'm' is full \(3 waiting\)") as caught:
        await mesh.admit(ask("a"))
    assert caught.value.reason == "QUEUE_FULL"
    assert (caught.value.retry_after_s or 0) >= 1
    other = asyncio.create_task(mesh.admit(ask("b")))  # has less than `a`, whose newest makes room
    with pytest.raises(ResourceExhausted) as caught:
        await tasks[2]
    assert caught.value.reason == "QUEUE_FULL"
    resumed = asyncio.create_task(mesh.admit(ask("a"), resumed=True))
    await until(lambda: mesh.admission.waiting == 4)
    assert mesh.shed("QUEUE_FULL") == 2
    held.release()
    for task in (resumed, tasks[0], other, tasks[1]):
        (await task).release()
    await settle()
    assert mesh.is_idle()
    await mesh.fleet.close()


async def test_what_cannot_start_in_time_is_shed_at_once(mesh: Mesh) -> None:
    mesh.add("a:1")
    grant = await mesh.admit()
    tasks = [asyncio.create_task(mesh.admit()) for _ in range(30)]
    await until(lambda: mesh.admission.waiting == 30)
    for task in tasks[:10]:  # one per second
        mesh.clock.now_s += 1.0
        grant.release()
        grant = await task
    with pytest.raises(ResourceExhausted, match="20 requests are ahead") as caught:
        await mesh.admit(within_s=10)
    assert caught.value.reason == "DEADLINE_TOO_SHORT"
    assert 15 < (caught.value.retry_after_s or 0) < 30
    assert mesh.shed("DEADLINE_TOO_SHORT") == 1
    urgent = asyncio.create_task(mesh.admit(ask(priority=1), within_s=10))  # passes all the others
    patient = asyncio.create_task(mesh.admit(within_s=60))
    for task in (urgent, *tasks[10:], patient):
        grant.release()
        grant = await task
    grant.release()
    assert mesh.is_idle()


async def test_a_deadline_that_passes_while_waiting_ends_the_wait(mesh: Mesh) -> None:
    mesh.add("a:1")
    held = await mesh.admit()
    with pytest.raises(DeadlineExceeded, match=r"waited .* for an endpoint with model 'm'"):
        await mesh.admit(within_s=0.05)
    assert mesh.shed("DEADLINE_EXCEEDED") == 1
    held.release()
    assert mesh.is_idle()


async def test_the_longest_wait_can_be_limited() -> None:
    mesh = Mesh(limits=lambda _model: AdmissionLimits(max_wait_s=0.05))
    mesh.add("a:1")
    with await mesh.admit(), pytest.raises(DeadlineExceeded):
        await mesh.admit()
    assert mesh.is_idle()
    await mesh.fleet.close()


async def test_a_request_that_nothing_can_serve_is_refused_at_once(mesh: Mesh) -> None:
    mesh.add("a:1")
    with pytest.raises(ModelNotFound):
        await mesh.admit(ask(model="other"))
    held = await mesh.admit()
    waiting = asyncio.create_task(mesh.admit())
    await settle()
    with pytest.raises(DeviceNotAvailable):
        await mesh.admit(ask(device="xpu"))
    held.release()
    (await waiting).release()


async def test_those_who_wait_outlast_a_restart() -> None:
    mesh = Mesh(absent_s=0.2)
    mesh.add("a:1")
    held = await mesh.admit()
    waiting = asyncio.create_task(mesh.admit())
    await settle()
    mesh.fleet.get("a:1").note_loss("gone")
    held.release()
    await settle()
    mesh.clock.now_s += 0.1
    assert not waiting.done()
    mesh.report("a:1")
    held = await waiting
    waiting = asyncio.create_task(mesh.admit())
    await settle()
    mesh.fleet.get("a:1").note_loss("gone for good")
    await settle()
    mesh.clock.now_s += 0.3
    with pytest.raises(Unavailable):
        await waiting
    held.release()
    assert mesh.is_idle()
    await mesh.fleet.close()


async def test_a_deadline_holds_while_the_model_loads(mesh: Mesh) -> None:
    mesh.add("a:1", models=(), available=("m",))
    with pytest.raises(DeadlineExceeded):
        await mesh.admit(within_s=0.05)
    assert mesh.is_idle()


async def test_as_many_wait_for_a_load_as_may_wait_and_as_long() -> None:
    mesh = Mesh(limits=lambda _model: AdmissionLimits(max_waiting=1, max_wait_s=0.2))
    mesh.add("a:1", models=(), available=("m",))
    tasks = [asyncio.create_task(mesh.admit()) for _ in range(2)]
    await settle()
    with pytest.raises(ResourceExhausted, match=r"\(2 waiting\)") as caught:
        await mesh.admit()
    assert (caught.value.reason, caught.value.retry_after_s) == ("QUEUE_FULL", 5)
    for task in tasks:
        with pytest.raises(DeadlineExceeded):
            await task
    mesh.report("a:1", models=("m",))
    with await mesh.admit():
        pass
    assert mesh.is_idle()
    await mesh.fleet.close()
