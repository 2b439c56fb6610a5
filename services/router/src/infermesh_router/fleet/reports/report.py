"""Converts the health reports of the wire to the policy's snapshots. The figures of an endpoint are not trusted."""

import math
from collections.abc import Callable, Mapping

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.policy.model_load import EXPECTED_OUTPUT_TOKENS, ModelLoad
from infermesh_router.policy.snapshot import DeviceKind, EndpointSnapshot, EndpointState

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

MOST_SEQUENCES = 1_000_000
MOST_TOKENS = 1 << 48
MOST_LOADING_S = 86400.0
MOST_BYTES = 1 << 50
"""More than any endpoint has, and so little that the sum over thousands of endpoints fits the fields of a report."""
_MOST_RATE = 1e9
_LEAST_REQUEST_S, _MOST_REQUEST_S = 1e-6, 1e4
"""Outside of these a time for a request is implausible."""

Rates = tuple[float, float]
"""Tokens per second: prefill and decode."""
BestRates = Callable[[str, pb.Load], Rates]


def bound_figures(report: pb.HealthReport) -> None:
    """Cuts the figures of a report down to what an endpoint can have, so that everybody can add them up."""
    for load in (report.load, *(model.load for model in report.models if model.HasField("load"))):
        _bound_load(load)
    for model in report.models:
        model.sequences = min(model.sequences, MOST_SEQUENCES)
        model.memory_bytes = min(model.memory_bytes, MOST_BYTES)
        model.size_bytes = min(model.size_bytes, MOST_BYTES)
        model.kv_cache_bytes = min(model.kv_cache_bytes, MOST_BYTES)
        _bound_progress(model)
    for available in report.available:
        available.memory_bytes = min(available.memory_bytes, MOST_BYTES)
        available.size_bytes = min(available.size_bytes, MOST_BYTES)
    device = report.device
    device.memory_total_bytes = min(device.memory_total_bytes, MOST_BYTES)
    device.memory_free_bytes = min(device.memory_free_bytes, MOST_BYTES)


def read_report(address: str, report: pb.HealthReport, best_rates: BestRates) -> EndpointSnapshot:
    """The snapshot of a report. `best_rates` gives the rates to use for a model ("": the total)."""
    sizes = {m.name: m.size_bytes for m in report.available} | {m.name: m.size_bytes for m in report.models}
    return EndpointSnapshot(
        address=address,
        state=_STATES.get(report.state, EndpointState.UNKNOWN),
        device=DEVICES.get(report.device.kind, DeviceKind.UNKNOWN),
        models=frozenset(m.name for m in report.models if m.state != pb.ENDPOINT_STATE_FAILED),
        ready_models=ready_models(report),
        total=_to_load(report.load, best_rates("", report.load)),
        loads={m.name: _to_load(m.load, best_rates(m.name, m.load)) for m in report.models if m.HasField("load")},
        memory_total_bytes=report.device.memory_total_bytes,
        memory_free_bytes=report.device.memory_free_bytes,
        evictable_bytes=_evictable_bytes(report),
        available={m.name: m.memory_bytes for m in report.available},
        blind_models=frozenset(m.name for m in report.available if m.HasField("takes_images") and not m.takes_images),
        model_sizes={name: size for name, size in sizes.items() if size},
    )


def ready_models(report: pb.HealthReport) -> frozenset[str]:
    """The models that an endpoint can answer with now."""
    if report.state != pb.ENDPOINT_STATE_READY:
        return frozenset()
    return frozenset(m.name for m in report.models if m.state == pb.ENDPOINT_STATE_READY)


def context_lengths(report: pb.HealthReport) -> Mapping[str, int]:
    """Model → longest prompt and output together, in tokens; 0 if unknown."""
    return {model.name: model.context_length for model in report.models}


def rates_of(load: pb.Load) -> Rates:
    """The rates that a report measured; 0 where it did not.

    A model that does not generate text reports the time of one more request instead: it becomes the decode rate at
    which a sequence takes as long. Its requests have no tokens to prefill.
    """
    prefill, decode = plausible_rate(load.prefill_tokens_per_s), plausible_rate(load.decode_tokens_per_s)
    if load.request_s > 0 and not prefill and not decode:
        return _MOST_RATE, plausible_rate(EXPECTED_OUTPUT_TOKENS / load.request_s)
    return prefill, decode


def plausible_rate(tokens_per_s: float) -> float:
    """The rate; 0 (not measured) if the value is implausible, because callers divide by it."""
    return tokens_per_s if 0.01 <= tokens_per_s <= _MOST_RATE else 0.0


def _to_load(load: pb.Load, rates: Rates) -> ModelLoad:
    prefill, decode = rates
    return ModelLoad(
        waiting_tokens=load.waiting_tokens,
        sequences=load.running + load.waiting,
        prefill_tokens_per_s=prefill,
        decode_tokens_per_s=decode,
        kv_cache_usage=load.kv_cache_usage,
        kv_cache_tokens=load.kv_cache_tokens,
        max_running=load.max_running,
        max_waiting=load.max_waiting,
    )


def _bound_progress(model: pb.ModelStatus) -> None:
    """Drops figures that cannot be; unset ones read 0 and stay unset."""
    if not 0 <= model.load_fraction <= 1:
        model.ClearField("load_fraction")
    if not 0 <= model.load_left_s <= MOST_LOADING_S:
        model.ClearField("load_left_s")


def _bound_load(load: pb.Load) -> None:
    """Nearly every figure is possible, and is not written again: reports come often."""
    for name in ("running", "waiting", "max_running", "max_waiting"):
        if getattr(load, name) > MOST_SEQUENCES:
            setattr(load, name, MOST_SEQUENCES)
    for name in ("waiting_tokens", "kv_cache_tokens", "preemptions", "cached_tokens", "generated_tokens"):
        if getattr(load, name) > MOST_TOKENS:
            setattr(load, name, MOST_TOKENS)
    for name in ("prefill_tokens_per_s", "decode_tokens_per_s"):
        if (rate := getattr(load, name)) != plausible_rate(rate):  # also if it is no number
            setattr(load, name, 0.0)
    if load.request_s and not _LEAST_REQUEST_S <= load.request_s <= _MOST_REQUEST_S:
        load.request_s = 0.0
    usage = load.kv_cache_usage
    if not 0.0 <= usage <= 1.0:
        load.kv_cache_usage = 0.0 if math.isnan(usage) else min(1.0, max(0.0, usage))


def _evictable_bytes(report: pb.HealthReport) -> int:
    return sum(
        m.memory_bytes for m in report.models if m.state == pb.ENDPOINT_STATE_READY and not m.pinned and not m.sequences
    )
