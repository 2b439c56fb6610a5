"""Tracks one endpoint: its last report, the work sent to it since, and whether it is connected.

Only this module converts the health reports of the wire to the policy's snapshots.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.breaker import Breaker, BreakerOptions, BreakerState
from infermesh_router.fleet.model_speeds import ModelSpeeds
from infermesh_router.policy.snapshot import DeviceKind, EndpointSnapshot, EndpointState

_log = logging.getLogger(__name__)

SETTLE_S = 0.02
"""Work sent less than this before a report arrived is probably not in it: both were on their way."""
RATE_HALF_LIFE_S = 60.0
"""Half-life of a peak of a measured rate."""

_STATES = {
    pb.ENDPOINT_STATE_LOADING: EndpointState.LOADING,
    pb.ENDPOINT_STATE_READY: EndpointState.READY,
    pb.ENDPOINT_STATE_DRAINING: EndpointState.DRAINING,
    pb.ENDPOINT_STATE_FAILED: EndpointState.FAILED,
}
DEVICES = {
    pb.DEVICE_KIND_CPU: DeviceKind.CPU,
    pb.DEVICE_KIND_XPU: DeviceKind.XPU,
    pb.DEVICE_KIND_CUDA: DeviceKind.CUDA,
}
"""The kinds that this version knows; a newer worker may report others."""


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """Work sent to an endpoint that has not ended."""

    prompt_tokens: int
    sequences: int
    since_s: float


class Endpoint:
    """One endpoint.

    `acquire` and `release` come in pairs; `note_report`, `note_loss` and `note_error` tell it what the router learnt.
    """

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        *,
        clock: Callable[[], float],
        notify: Callable[[], None],
        breaker: BreakerOptions | None = None,
    ) -> None:
        self.address = address
        self.channel = channel
        self.connected = False
        self.last_report: pb.HealthReport | None = None
        self.last_error = ""
        self._clock = clock
        self._notify = notify
        self.breaker = Breaker(breaker, clock=clock, on_change=self._breaker_changed)
        self._breaker_state = BreakerState.CLOSED
        self._leases: set[Lease] = set()
        self._own_sequences = 0
        """Sequences of all leases."""
        self._unreported: set[Lease] = set()
        self._ended: list[tuple[float, Lease]] = []
        """When work ended that the last report may still count, and its lease."""
        self._speeds = ModelSpeeds()
        self._reported_s = 0.0
        self._reported = EndpointSnapshot(address=address, state=EndpointState.UNKNOWN, device=DeviceKind.UNKNOWN)
        self._snapshot: EndpointSnapshot | None = None

    @property
    def in_flight(self) -> int:
        """Requests that this router has running on it."""
        return len(self._leases)

    @property
    def snapshot(self) -> EndpointSnapshot:
        """What the router knows now; the same object until something changes."""
        if self._snapshot is None:
            self._snapshot = self._make_snapshot()
        return self._snapshot

    def acquire(self, *, prompt_tokens: int, sequences: int) -> Lease:
        """Credits work that is being sent, until a report arrives that must contain it."""
        lease = Lease(prompt_tokens, sequences, self._clock())
        self._leases.add(lease)
        self._own_sequences += sequences
        self._unreported.add(lease)
        self._change()
        return lease

    def release(self, lease: Lease) -> None:
        """Ends the credit: the work ended, well or not. Releasing twice is safe."""
        if lease not in self._leases:
            return
        self._leases.discard(lease)
        self._own_sequences -= lease.sequences
        if lease in self._unreported:
            self._unreported.discard(lease)
        else:
            self._ended.append((self._clock(), lease))
        self._change()

    def note_report(self, report: pb.HealthReport) -> None:
        """Takes over a health report that has arrived."""
        newest_s = self._clock() - SETTLE_S
        if self._unreported:
            self._unreported = {lease for lease in self._unreported if lease.since_s > newest_s}
        if self._ended:
            self._ended = [(ended_s, lease) for ended_s, lease in self._ended if ended_s > newest_s]
        if not self.connected:
            self.breaker.note_reconnect()
        self.last_report = report
        speeds = self._speeds.note(report, self._clock())
        self._reported = replace(self._read(report), runtime=report.runtime, request_s=speeds)
        self.connected = True
        self.last_error = ""
        self._change()

    def note_loss(self, reason: str) -> None:
        """Marks it as not connected: its health stream broke."""
        self.connected = False
        self.last_error = reason
        self._change()

    def note_error(self, reason: str) -> None:
        """Records why a call failed by the endpoint's fault."""
        self.last_error = reason
        self._change()

    def _read(self, report: pb.HealthReport) -> EndpointSnapshot:
        """The report, with the best rates of late: an endpoint with few sequences measures less than it can do."""
        before, now_s = self._reported, self._clock()
        ready = _ready_models(report)
        kept = 0.5 ** ((now_s - self._reported_s) / RATE_HALF_LIFE_S) if ready == before.ready_models else 0.0
        self._reported_s = now_s
        return _read_report(
            self.address,
            report,
            ready_models=ready,
            prefill_tokens_per_s=max(_rate(report.load.prefill_tokens_per_s), before.prefill_tokens_per_s * kept),
            decode_tokens_per_s=max(_rate(report.load.decode_tokens_per_s), before.decode_tokens_per_s * kept),
        )

    def _breaker_changed(self, state: BreakerState) -> None:
        if state is not self._breaker_state:
            self._breaker_state = state
            _log.warning("circuit breaker of endpoint %s is %s", self.address, state.value)
        if state is BreakerState.OPEN:  # time alone makes it half-open, which changes the snapshot
            asyncio.get_running_loop().call_later(self.breaker.half_open_in_s, self._change)
        self._change()

    def _change(self) -> None:
        self._snapshot = None
        self._notify()

    def _make_snapshot(self) -> EndpointSnapshot:
        reported = self._reported
        waiting_tokens, sequences = reported.waiting_tokens, reported.sequences
        for lease in self._unreported:
            waiting_tokens += lease.prompt_tokens
            sequences += lease.sequences
        for _, lease in self._ended:
            sequences -= lease.sequences
        return reported.with_load(
            connected=self.connected,
            waiting_tokens=waiting_tokens,
            # the router knows its own sequences, however late the reports are
            sequences=max(self._own_sequences, sequences),
            in_flight=len(self._leases),
            breaker_open=not self.breaker.admits,
        )


def _read_report(
    address: str,
    report: pb.HealthReport,
    *,
    ready_models: frozenset[str],
    prefill_tokens_per_s: float,
    decode_tokens_per_s: float,
) -> EndpointSnapshot:
    """Converts a report, with the given rates in place of its own."""
    state = _STATES.get(report.state, EndpointState.UNKNOWN)
    load = report.load
    sizes = {m.name: m.size_bytes for m in report.available} | {m.name: m.size_bytes for m in report.models}
    return EndpointSnapshot(
        address=address,
        state=state,
        device=DEVICES.get(report.device.kind, DeviceKind.UNKNOWN),
        models=frozenset(m.name for m in report.models if m.state != pb.ENDPOINT_STATE_FAILED),
        ready_models=ready_models,
        waiting_tokens=load.waiting_tokens,
        sequences=load.running + load.waiting,
        prefill_tokens_per_s=prefill_tokens_per_s,
        decode_tokens_per_s=decode_tokens_per_s,
        kv_cache_usage=min(1.0, max(0.0, load.kv_cache_usage)),
        kv_cache_tokens=load.kv_cache_tokens,
        max_running=load.max_running,
        max_waiting=load.max_waiting,
        memory_total_bytes=report.device.memory_total_bytes,
        memory_free_bytes=report.device.memory_free_bytes,
        evictable_bytes=_evictable_bytes(report),
        available={m.name: m.memory_bytes for m in report.available},
        model_sizes={name: size for name, size in sizes.items() if size},
    )


def _rate(tokens_per_s: float) -> float:
    """The rate; 0 (not measured) if the value is implausible, because callers divide by it."""
    return tokens_per_s if 0.01 <= tokens_per_s <= 1e9 else 0.0


def _evictable_bytes(report: pb.HealthReport) -> int:
    return sum(
        m.memory_bytes for m in report.models if m.state == pb.ENDPOINT_STATE_READY and not m.pinned and not m.sequences
    )


def _ready_models(report: pb.HealthReport) -> frozenset[str]:
    if report.state != pb.ENDPOINT_STATE_READY:
        return frozenset()
    return frozenset(m.name for m in report.models if m.state == pb.ENDPOINT_STATE_READY)
