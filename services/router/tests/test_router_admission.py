"""Admission before endpoints that report by hand: who goes when, who is shed, and that nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import grpc
import pytest
from prometheus_client import CollectorRegistry

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.admission import Admission, Grant
from infermesh_router.admission.model_queue import AdmissionLimits
from infermesh_router.admission.sessions import Sessions
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.policy.choice import Choice, choose
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.requests.call import Call, from_generate
from infermesh_runtime.errors import (
    DeadlineExceeded,
    DeviceNotAvailable,
    ModelNotFound,
    ResourceExhausted,
    Unavailable,
)

CPU, XPU = pb.DEVICE_KIND_CPU, pb.DEVICE_KIND_XPU


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class FakeLoader:
    """Makes the model ready when told to."""

    fleet: Fleet
    clock: Clock
    calls: list[Wanted] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def ensure(self, wanted: Wanted) -> None:
        self.calls.append(wanted)
        await self.ready.wait()


class Mesh:
    """A fleet without connections, and an admission over it."""

    def __init__(self, **options: object) -> None:
        self.clock = Clock()
        self.choices = 0
        self.registry = CollectorRegistry()
        self.fleet = Fleet(open_channel=grpc.aio.insecure_channel, poll=self._poll, clock=self.clock)
        self.loader = FakeLoader(self.fleet, self.clock)
        self.admission = Admission(
            self.fleet,
            choose=self._choose,
            metrics=RequestMetrics(self.registry),
            sessions=Sessions(),
            loader=self.loader,
            clock=self.clock,
            **options,
        )

    def add(self, address: str, **report: object) -> None:
        known = {endpoint.address for endpoint in self.fleet.endpoints}
        self.fleet.set_addresses({*known, address})
        self.report(address, **report)

    def report(
        self,
        address: str,
        *,
        room: int = 1,
        models: Sequence[str] = ("m",),
        device: pb.DeviceKind = CPU,
        available: Sequence[str] = (),
    ) -> None:
        self.fleet.get(address).note_report(
            pb.HealthReport(
                state=pb.ENDPOINT_STATE_READY,
                device=pb.Device(kind=device),
                models=[pb.ModelStatus(name=name, state=pb.ENDPOINT_STATE_READY) for name in models],
                load=pb.Load(max_running=room),
                available=[pb.AvailableModel(name=name, memory_bytes=1) for name in available],
            )
        )

    async def admit(self, call: Call | None = None, *, within_s: float | None = None, **options: object) -> Grant:
        deadline_s = None if within_s is None else self.clock() + within_s
        return await self.admission.admit(call or ask(), deadline_s=deadline_s, **options)

    def shed(self, reason: str) -> float | None:
        return self.registry.get_sample_value("infermesh:router_shed_total", {"reason": reason})

    def is_idle(self) -> bool:
        """Whether nothing waits, nothing is in flight, and no task or queue is kept."""
        room = self.admission._room
        in_flight = sum(endpoint.in_flight for endpoint in self.fleet.endpoints)
        return not (self.admission.waiting or in_flight or room._queues or room._offering)

    def _choose(self, endpoints: Sequence[EndpointSnapshot], wanted: Wanted, *, turn: int) -> Choice:
        self.choices += 1
        return choose(endpoints, wanted, turn=turn)

    async def _poll(self, _endpoint: object) -> None:
        await asyncio.Event().wait()


def ask(client: str = "", *, priority: int = 0, **fields: object) -> Call:
    return from_generate(
        pb.GenerateRequest(**{"model": "m", "text": "x" * 40, "client_id": client, "priority": priority, **fields})
    )


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    mesh = Mesh()
    yield mesh
    await mesh.fleet.close()


async def settle() -> None:
    """Lets all that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


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


async def test_a_full_queue_refuses_with_a_time_to_retry() -> None:
    mesh = Mesh(limits=lambda _model: AdmissionLimits(max_waiting=3))
    mesh.add("a:1")
    held = await mesh.admit()
    tasks = [asyncio.create_task(mesh.admit(ask("a"))) for _ in range(3)]
    await until(lambda: mesh.admission.waiting == 3)
    with pytest.raises(ResourceExhausted, match="3 requests wait for the model 'm'") as caught:
        await mesh.admit(ask("a"))
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_after_s >= 1
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
    for task in tasks[:10]:  # one a second
        mesh.clock.now_s += 1.0
        grant.release()
        grant = await task
    with pytest.raises(ResourceExhausted, match="20 requests are ahead") as caught:
        await mesh.admit(within_s=10)
    assert caught.value.reason == "DEADLINE_TOO_SHORT"
    assert 15 < caught.value.retry_after_s < 30
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
    with pytest.raises(DeadlineExceeded, match=r"waited .* for an endpoint with the model 'm'"):
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
            assert (grant.queued_s, grant.loading_s) == (pytest.approx(4), pytest.approx(4))
    assert mesh.is_idle()


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
    with pytest.raises(ResourceExhausted, match="2 requests wait") as caught:
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
