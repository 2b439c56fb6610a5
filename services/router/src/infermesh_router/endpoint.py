"""Owns what the router knows of one endpoint: its last report, the work sent to it, and whether it is reached.

Knows no policy; the conversion from the wire's report to a snapshot is here and nowhere else.
"""

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.snapshot import DeviceKind, EndpointSnapshot, State

SETTLE_S = 0.02
"""Age below which sent work is taken to be missing from a report that arrives: both travel for some time."""

_STATES = {
    pb.ENDPOINT_STATE_LOADING: State.LOADING,
    pb.ENDPOINT_STATE_READY: State.READY,
    pb.ENDPOINT_STATE_DRAINING: State.DRAINING,
    pb.ENDPOINT_STATE_FAILED: State.FAILED,
}
DEVICES = {
    pb.DEVICE_KIND_CPU: DeviceKind.CPU,
    pb.DEVICE_KIND_XPU: DeviceKind.XPU,
    pb.DEVICE_KIND_CUDA: DeviceKind.CUDA,
}
"""The kinds that this version knows; a newer worker may have others."""


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """Work sent to an endpoint, until it ends."""

    prompt_tokens: int
    sequences: int
    since_s: float


class Endpoint:
    """One endpoint. `acquire` and `release` come in pairs; `report`, `lose` and `note_error` say what was learnt."""

    def __init__(
        self, address: str, channel: grpc.aio.Channel, *, clock: Callable[[], float], notify: Callable[[], None]
    ) -> None:
        self.address = address
        self.channel = channel
        self.connected = False
        self.last_report: pb.HealthReport | None = None
        self.last_error = ""
        self._clock = clock
        self._notify = notify
        self._leases: set[Lease] = set()
        self._unreported: set[Lease] = set()
        self._snapshot: EndpointSnapshot | None = None

    @property
    def in_flight(self) -> int:
        """Requests of this router on it."""
        return len(self._leases)

    @property
    def snapshot(self) -> EndpointSnapshot:
        """What is known now; the same object until something changes."""
        if self._snapshot is None:
            self._snapshot = self._make_snapshot()
        return self._snapshot

    def acquire(self, *, prompt_tokens: int, sequences: int) -> Lease:
        """Credits work that is being sent, until a report that must contain it."""
        lease = Lease(prompt_tokens, sequences, self._clock())
        self._leases.add(lease)
        self._unreported.add(lease)
        self._change()
        return lease

    def release(self, lease: Lease) -> None:
        """The work ended, well or not. Releasing twice is safe."""
        self._leases.discard(lease)
        self._unreported.discard(lease)
        self._change()

    def report(self, report: pb.HealthReport) -> None:
        """A health report arrived."""
        newest_s = self._clock() - SETTLE_S
        self._unreported = {lease for lease in self._unreported if lease.since_s > newest_s}
        self.last_report = report
        self.connected = True
        self.last_error = ""
        self._change()

    def lose(self, reason: str) -> None:
        """The health stream broke."""
        self.connected = False
        self.last_error = reason
        self._change()

    def note_error(self, reason: str) -> None:
        """A call failed for the endpoint's fault."""
        self.last_error = reason
        self._change()

    def _change(self) -> None:
        self._snapshot = None
        self._notify()

    def _make_snapshot(self) -> EndpointSnapshot:
        report = self.last_report
        if report is None:
            return EndpointSnapshot(
                address=self.address,
                connected=self.connected,
                state=State.UNKNOWN,
                device=DeviceKind.UNKNOWN,
                in_flight=self.in_flight,
            )
        state = _STATES.get(report.state, State.UNKNOWN)
        load = report.load
        return EndpointSnapshot(
            address=self.address,
            connected=self.connected,
            state=state,
            device=DEVICES.get(report.device.kind, DeviceKind.UNKNOWN),
            models=frozenset(m.name for m in report.models if m.state != pb.ENDPOINT_STATE_FAILED),
            ready_models=_ready_models(report) if state is State.READY else frozenset(),
            waiting_tokens=load.waiting_tokens + sum(lease.prompt_tokens for lease in self._unreported),
            sequences=load.running + load.waiting + sum(lease.sequences for lease in self._unreported),
            prefill_tokens_per_s=load.prefill_tokens_per_s,
            decode_tokens_per_s=load.decode_tokens_per_s,
            kv_cache_usage=min(1.0, max(0.0, load.kv_cache_usage)),
            in_flight=self.in_flight,
        )


def _ready_models(report: pb.HealthReport) -> frozenset[str]:
    return frozenset(m.name for m in report.models if m.state == pb.ENDPOINT_STATE_READY)
