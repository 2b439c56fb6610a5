"""When requests get an endpoint: at once, in their turn, or after their model is loaded; nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from infermesh_router.admission.grant import Grant
from infermesh_router.admission.model_queue import AdmissionLimits
from infermesh_router.requests.call import Call
from infermesh_router.testing.admission import CPU, XPU, Mesh, ask, settle, until


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    mesh = Mesh()
    yield mesh
    await mesh.fleet.close()


async def test_with_room_there_is_no_task_switch(mesh: Mesh) -> None:
    mesh.add("a:1")
    with pytest.raises(StopIteration) as done:
        mesh.admit().send(None)
    grant = done.value.value
    assert (grant.endpoint.address, grant.queued_s, grant.loading_s) == ("a:1", 0.0, 0.0)
    assert grant.endpoint.in_flight == 1
    with grant:
        pass
    assert mesh.is_idle()


async def test_one_waits_until_another_leaves(mesh: Mesh) -> None:
    mesh.add("a:1")
    first = await mesh.admit()
    second = asyncio.create_task(mesh.admit())
    await settle()
    assert not second.done()
    (queue,) = mesh.admission.queues()
    mesh.clock.now_s += 2
    assert (queue.model, queue.waiting) == ("m", 1)
    first.release()
    grant = await second
    assert grant.queued_s == pytest.approx(2.0)
    assert not mesh.admission.queues()
    grant.release()
    await settle()
    assert mesh.is_idle()


async def test_an_endpoint_that_joins_serves_those_who_wait(mesh: Mesh) -> None:
    mesh.add("a:1")
    held = await mesh.admit()
    waiting = asyncio.create_task(mesh.admit())
    await settle()
    mesh.add("b:1")
    assert (await waiting).endpoint.address == "b:1"
    assert held.endpoint.in_flight == 1


async def test_order_is_resumed_then_priority_then_fair_then_age(mesh: Mesh) -> None:
    mesh.add("a:1")
    grant = await mesh.admit()
    order: list[str] = []

    async def go(name: str, call: Call, *, resumed: bool = False) -> None:
        with await mesh.admit(call, resumed=resumed):
            order.append(name)

    tasks = []
    for name, call, resumed in [
        ("a1", ask("a"), False),
        ("a2", ask("a"), False),
        ("a3", ask("a"), False),
        ("b1", ask("b"), False),
        ("high", ask("a", priority=1), False),
        ("resumed", ask("c"), True),
    ]:
        tasks.append(asyncio.create_task(go(name, call, resumed=resumed)))
        await asyncio.sleep(0)
    grant.release()
    await asyncio.gather(*tasks)
    assert order == ["resumed", "high", "a1", "b1", "a2", "a3"]


async def test_a_thousand_drain_in_order_and_none_is_lost(mesh: Mesh) -> None:
    mesh.add("a:1", room=8)
    held = [await mesh.admit() for _ in range(8)]
    order: list[int] = []

    async def go(number: int) -> None:
        with await mesh.admit():
            order.append(number)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(go(number)) for number in range(1000)]
    await until(lambda: mesh.admission.waiting == 1000)
    for grant in held:
        grant.release()
    await asyncio.gather(*tasks)
    assert order == list(range(1000))
    assert mesh.is_idle()


async def test_a_change_costs_as_many_choices_as_it_places() -> None:
    mesh = Mesh(limits=lambda _model: AdmissionLimits(max_waiting=5000))
    mesh.add("a:1", room=4)
    held = [await mesh.admit() for _ in range(4)]
    tasks = [asyncio.create_task(mesh.admit()) for _ in range(5000)]
    await until(lambda: mesh.admission.waiting == 5000)
    await settle()
    before = mesh.choices
    mesh.fleet.changes.notify()
    await settle()
    assert mesh.choices - before <= 2
    before = mesh.choices
    held[0].release()
    await until(lambda: mesh.admission.waiting == 4999)
    await settle()
    assert mesh.choices - before <= 4
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    granted = [task for task in tasks if not task.cancelled()]
    for grant in (*held, *(task.result() for task in granted)):
        grant.release()
    assert mesh.is_idle()
    await mesh.fleet.close()


async def test_cancel_storms_leave_nothing(mesh: Mesh) -> None:
    mesh.add("a:1", room=2)
    held = [await mesh.admit() for _ in range(2)]
    for _ in range(5):
        tasks = [asyncio.create_task(mesh.admit(ask(str(n % 7), priority=n % 3))) for n in range(200)]
        await until(lambda: mesh.admission.waiting == 200)
        held.pop().release()  # some are placed while all are cancelled
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Grant):
                result.release()
        held.append(await mesh.admit())
    for grant in held:
        grant.release()
    await settle()
    assert mesh.is_idle()


async def test_a_grant_that_comes_while_its_request_is_cancelled_is_given_back(mesh: Mesh) -> None:
    mesh.add("a:1")
    first = await mesh.admit()
    second = asyncio.create_task(mesh.admit())
    await settle()
    first.release()
    mesh.admission._room._offer(mesh.admission._room.queues[0])
    assert mesh.fleet.get("a:1").in_flight == 1
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert mesh.is_idle()


async def test_one_who_waits_for_a_device_holds_up_no_other(mesh: Mesh) -> None:
    mesh.add("cpu:1", device=CPU)
    mesh.add("xpu:1", device=XPU)
    cpu, xpu = await mesh.admit(ask(device="cpu")), await mesh.admit(ask(device="xpu"))
    for_cpu = asyncio.create_task(mesh.admit(ask(device="cpu")))
    await settle()
    for_xpu = asyncio.create_task(mesh.admit(ask(device="xpu")))
    await settle()
    xpu.release()
    assert (await for_xpu).endpoint.address == "xpu:1"
    assert not for_cpu.done()
    cpu.release()
    assert (await for_cpu).endpoint.address == "cpu:1"


async def test_newcomers_do_not_pass_those_who_wait(mesh: Mesh) -> None:
    mesh.add("cpu:1", device=CPU)
    held = await mesh.admit()
    for_cpu = asyncio.create_task(mesh.admit(ask(device="cpu")))
    await settle()
    held.release()
    newcomer = asyncio.create_task(mesh.admit())  # any device would do, in a lane where nobody waits
    assert (await for_cpu).endpoint.address == "cpu:1"
    await settle()
    assert not newcomer.done()
    newcomer.cancel()
    await asyncio.gather(newcomer, return_exceptions=True)


async def test_a_model_that_is_not_loaded_is_loaded_and_the_time_is_told(mesh: Mesh) -> None:
    mesh.add("a:1", models=("other",), available=("m", "other"), room=9)
    tasks = [asyncio.create_task(mesh.admit()) for _ in range(3)]
    await settle()
    assert [wanted.model for wanted in mesh.loader.calls] == ["m"] * 3
    mesh.clock.now_s += 4
    mesh.report("a:1", models=("m", "other"), room=9)
    mesh.loader.ready.set()
    for task in tasks:
        with await task as grant:
            assert [grant.queued_s, grant.loading_s] == pytest.approx([4, 4])
    assert mesh.is_idle()


async def test_those_who_wait_load_a_model_that_was_unloaded_meanwhile(mesh: Mesh) -> None:
    mesh.add("a:1")
    held = await mesh.admit()
    tasks = [asyncio.create_task(mesh.admit()) for _ in range(3)]
    await settle()
    held.release()
    mesh.report("a:1", models=(), available=("m",))
    await until(lambda: len(mesh.loader.calls) == 3)
    mesh.report("a:1", models=("m",), room=3)
    mesh.loader.ready.set()
    for task in tasks:
        (await task).release()
    assert mesh.is_idle()
