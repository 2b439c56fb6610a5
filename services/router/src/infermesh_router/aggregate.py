"""Owns the router's own health report: its endpoints' reports as one. Knows no connections."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.endpoint import Endpoint

_PREFERENCE = (
    pb.ENDPOINT_STATE_READY,
    pb.ENDPOINT_STATE_LOADING,
    pb.ENDPOINT_STATE_DRAINING,
    pb.ENDPOINT_STATE_FAILED,
    pb.ENDPOINT_STATE_UNSPECIFIED,
)
_SUMMED = (
    "running",
    "waiting",
    "waiting_tokens",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "kv_cache_tokens",
    "preemptions",
    "cached_tokens",
    "generated_tokens",
)


def combine_reports(endpoints: Sequence[Endpoint], *, version: str, started_at: Timestamp) -> pb.HealthReport:
    """READY if an endpoint is; models of all in their best state; loads and memory summed over the connected ones."""
    reports = [e.last_report for e in endpoints if e.connected and e.last_report is not None]
    state = _best_state([report.state for report in reports]) if reports else pb.ENDPOINT_STATE_LOADING
    return pb.HealthReport(
        state=state,
        message="" if state == pb.ENDPOINT_STATE_READY else _explain(endpoints),
        device=_combine_devices(reports),
        models=combine_models(reports),
        load=_combine_loads(reports),
        runtime="infermesh router",
        version=version,
        started_at=started_at,
    )


def combine_models(reports: Sequence[pb.HealthReport]) -> list[pb.ModelStatus]:
    """One status for each model, sorted by name: the one in the best state."""
    best: dict[str, pb.ModelStatus] = {}
    for report in reports:
        for model in report.models:
            known = best.get(model.name)
            if known is None or _rank(model.state) < _rank(known.state):
                best[model.name] = model
    return [best[name] for name in sorted(best)]


def _best_state(states: Sequence[pb.EndpointState]) -> pb.EndpointState:
    return min(states, key=_rank)


def _rank(state: pb.EndpointState) -> int:
    """Smaller is better; a state that only a newer worker knows comes last."""
    return _PREFERENCE.index(state) if state in _PREFERENCE else len(_PREFERENCE)


def _explain(endpoints: Sequence[Endpoint]) -> str:
    if not endpoints:
        return "no endpoint is known"
    return "; ".join(f"{e.address}: {_explain_endpoint(e)}" for e in endpoints)


def _explain_endpoint(endpoint: Endpoint) -> str:
    report = endpoint.last_report
    if not endpoint.connected or report is None:
        return endpoint.last_error or "not reached yet"
    return report.message or endpoint.snapshot.state


def _combine_devices(reports: Sequence[pb.HealthReport]) -> pb.Device:
    return pb.Device(
        kind=pb.DEVICE_KIND_UNSPECIFIED,
        name=", ".join(sorted({r.device.name for r in reports if r.device.name})),
        memory_total_bytes=sum(r.device.memory_total_bytes for r in reports),
        memory_free_bytes=sum(r.device.memory_free_bytes for r in reports),
    )


def _combine_loads(reports: Sequence[pb.HealthReport]) -> pb.Load:
    loads = [report.load for report in reports]
    combined = pb.Load(**{name: sum(getattr(load, name) for load in loads) for name in _SUMMED})
    if combined.kv_cache_tokens:
        held = sum(load.kv_cache_usage * load.kv_cache_tokens for load in loads)
        combined.kv_cache_usage = held / combined.kv_cache_tokens
    return combined
