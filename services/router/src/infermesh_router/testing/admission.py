"""An admission with endpoints whose reports the test writes, and a clock that the test controls."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.admission import Admission
from infermesh_router.admission.grant import Grant
from infermesh_router.admission.pending_call import PendingCall
from infermesh_router.admission.sessions import Sessions
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.policy.choice import Choice, choose
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.requests.call import Call
from infermesh_router.requests.kinds.generate import from_generate
from infermesh_router.requests.telling import Telling

CPU, XPU = pb.DEVICE_KIND_CPU, pb.DEVICE_KIND_XPU


@dataclass
class Clock:
    """A clock that is set by hand."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class FakeLoader:
    """Makes the model ready when it is told to."""

    fleet: Fleet
    clock: Clock
    calls: list[Wanted] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def ensure(self, wanted: Wanted, telling: Telling | None = None) -> None:  # noqa: ARG002 - as a Loader
        """Waits until `ready` is set."""
        self.calls.append(wanted)
        await self.ready.wait()


class Mesh:
    """A fleet without connections, and an admission over it."""

    def __init__(self, **options: Any) -> None:
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

    def add(self, address: str, **report: Any) -> None:
        """Adds an endpoint that reports this."""
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
        """Lets an endpoint report: room for that many sequences, ready models, and models on disk."""
        self.fleet.get(address).note_report(
            pb.HealthReport(
                state=pb.ENDPOINT_STATE_READY,
                device=pb.Device(kind=device),
                models=[pb.ModelStatus(name=name, state=pb.ENDPOINT_STATE_READY) for name in models],
                load=pb.Load(max_running=room),
                available=[pb.AvailableModel(name=name, memory_bytes=1) for name in available],
            )
        )

    async def admit(
        self, call: Call | None = None, *, within_s: float | None = None, resumed: bool = False, **options: Any
    ) -> Grant:
        """Admits a call, with a deadline by the mesh's clock; `resumed` as one that waits long for an endpoint."""
        pending = self.arrive(call, within_s=within_s, resumed=resumed)
        return await self.admission.admit(pending, **options)

    def arrive(self, call: Call | None = None, *, within_s: float | None = None, resumed: bool = False) -> PendingCall:
        """A call that has arrived and asks for nothing yet."""
        deadline_s = None if within_s is None else self.clock() + within_s
        give_up_s = self.clock() + 60 if resumed else None
        return self.admission.arrive(call or ask(), deadline_s=deadline_s, give_up_s=give_up_s)

    def shed(self, reason: str) -> float | None:
        """How many requests were shed for that reason."""
        return self.registry.get_sample_value("infermesh:router_shed_total", {"reason": reason})

    def is_idle(self) -> bool:
        """Whether nothing waits, nothing is in flight, and no task or queue is kept."""
        room = self.admission._room
        in_flight = sum(endpoint.in_flight for endpoint in self.fleet.endpoints)
        return not (self.admission.waiting or in_flight or room._queues or room._granted or room._offering)

    def _choose(self, endpoints: Sequence[EndpointSnapshot], wanted: Wanted, *, turn: int) -> Choice:
        self.choices += 1
        return choose(endpoints, wanted, turn=turn)

    async def _poll(self, _endpoint: object) -> None:
        await asyncio.Event().wait()


def ask(client: str = "", *, priority: int = 0, **fields: Any) -> Call:
    """A call from that client."""
    return from_generate(
        pb.GenerateRequest(**{"model": "m", "text": "x" * 40, "client_id": client, "priority": priority, **fields})
    )


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the condition did not come true")
