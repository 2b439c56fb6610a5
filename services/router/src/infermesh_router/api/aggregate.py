"""Combines the endpoints' health reports into the router's own."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint

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
_UINT32 = ("running", "waiting", "max_running", "max_waiting")
_MOST_UINT32, _MOST_UINT64 = (1 << 32) - 1, (1 << 64) - 1


def combine_reports(
    endpoints: Sequence[Endpoint],
    *,
    version: str,
    started_at: Timestamp,
    queued: int = 0,
    aliases: Mapping[str, Iterable[str]] | None = None,
) -> pb.HealthReport:
    """The router's report: READY if an endpoint is, with the models, loads and memory of all connected endpoints.

    `queued` is how many requests wait in the router itself. `aliases` are listed as models and hide models of that
    name.
    """
    reports = [e.last_report for e in endpoints if e.connected and e.last_report is not None]
    models = combine_models(reports)
    aliases = aliases or {}
    named = [model for model in models if model.name not in aliases]
    available = combine_available(reports)
    loadable = [model for model in available if model.name not in aliases]
    state = _best_state([report.state for report in reports]) if reports else pb.ENDPOINT_STATE_LOADING
    return pb.HealthReport(
        state=state,
        message="" if state == pb.ENDPOINT_STATE_READY else _explain(endpoints),
        device=_combine_devices(reports),
        models=[*named, *list_aliases(models, aliases)],
        available=[*loadable, *list_available_aliases(available, aliases)],
        load=_combine_loads(reports, queued),
        runtime="infermesh router",
        version=version,
        started_at=started_at,
        kinds=sorted({kind for report in reports for kind in report.kinds}),
    )


def combine_models(reports: Sequence[pb.HealthReport]) -> list[pb.ModelStatus]:
    """One status for each model, sorted by name: the best state, and the sequences and loads of all endpoints."""
    best: dict[str, pb.ModelStatus] = {}
    sequences: Counter[str] = Counter()
    loads: defaultdict[str, list[pb.Load | None]] = defaultdict(list)
    for report in reports:
        for model in report.models:
            sequences[model.name] += model.sequences
            if report.state == pb.ENDPOINT_STATE_READY and model.state == pb.ENDPOINT_STATE_READY:
                loads[model.name].append(model.load if model.HasField("load") else None)
            known = best.get(model.name)
            if known is None or _rank(model.state) < _rank(known.state):
                best[model.name] = model
    return [_combined(best[name], sequences[name], loads[name]) for name in sorted(best)]


def list_aliases(models: Sequence[pb.ModelStatus], aliases: Mapping[str, Iterable[str]]) -> list[pb.ModelStatus]:
    """A status for each alias with a listed model, sorted by name: its models' best state and shortest context."""
    by_name = {model.name: model for model in models}
    listed = []
    for alias in sorted(aliases):
        known = [by_name[name] for name in aliases[alias] if name in by_name]
        if known:
            best = min(known, key=lambda model: _rank(model.state))
            shortest = min(model.context_length for model in known)
            status = pb.ModelStatus(
                name=alias, state=best.state, context_length=shortest, created_at=best.created_at, kind=best.kind
            )
            status.inputs.extend(best.inputs)
            status.outputs.extend(best.outputs)
            listed.append(status)
    return listed


def combine_available(reports: Sequence[pb.HealthReport]) -> list[pb.AvailableModel]:
    """Each model that some endpoint could load, sorted by name, with the least memory that loading it takes."""
    least: dict[str, pb.AvailableModel] = {}
    takes: defaultdict[str, set[bool | None]] = defaultdict(set)
    for report in reports:
        for model in report.available:
            takes[model.name].add(_takes_images(model))
            known = least.get(model.name)
            if known is None or model.memory_bytes < known.memory_bytes:
                least[model.name] = model
    return [_with_images(least[name], takes[name]) for name in sorted(least)]


def list_available_aliases(
    available: Sequence[pb.AvailableModel], aliases: Mapping[str, Iterable[str]]
) -> list[pb.AvailableModel]:
    """An entry for each alias with a model that could be loaded, sorted by name: as its smallest model, with the
    shortest context."""
    by_name = {model.name: model for model in available}
    listed = []
    for alias in sorted(aliases):
        known = [by_name[name] for name in aliases[alias] if name in by_name]
        if known:
            entry = pb.AvailableModel()
            entry.CopyFrom(min(known, key=lambda model: model.memory_bytes))
            entry.name, entry.context_length = alias, min(model.context_length for model in known)
            listed.append(_with_images(entry, {_takes_images(model) for model in known}))
    return listed


def _takes_images(model: pb.AvailableModel) -> bool | None:
    return model.takes_images if model.HasField("takes_images") else None


def _with_images(model: pb.AvailableModel, told: set[bool | None]) -> pb.AvailableModel:
    """The model, which takes images if it does somewhere, and takes none only if all say so."""
    takes = True if True in told else None if None in told else False
    if takes == _takes_images(model):
        return model
    changed = pb.AvailableModel()
    changed.CopyFrom(model)
    changed.ClearField("takes_images")
    if takes is not None:
        changed.takes_images = takes
    return changed


def _combined(model: pb.ModelStatus, sequences: int, loads: Sequence[pb.Load | None]) -> pb.ModelStatus:
    combined = pb.ModelStatus()
    combined.CopyFrom(model)
    combined.sequences = min(sequences, _MOST_UINT32)
    if all(load is not None for load in loads):
        combined.load.CopyFrom(add_loads([load for load in loads if load is not None]))
    else:  # the sum of some would say less than the endpoints' totals do
        combined.ClearField("load")
    return combined


def _best_state(states: Sequence[pb.EndpointState]) -> pb.EndpointState:
    return min(states, key=_rank)


def _rank(state: pb.EndpointState) -> int:
    """Smaller is better; a state that only newer workers know comes last."""
    return _PREFERENCE.index(state) if state in _PREFERENCE else len(_PREFERENCE)


def _explain(endpoints: Sequence[Endpoint]) -> str:
    if not endpoints:
        return "the router has no endpoints"
    return "; ".join(f"{e.address}: {_explain_endpoint(e)}" for e in endpoints)


def _explain_endpoint(endpoint: Endpoint) -> str:
    report = endpoint.last_report
    if not endpoint.connected or report is None:
        return endpoint.last_error or "not connected yet"
    return report.message or endpoint.snapshot.state


def _combine_devices(reports: Sequence[pb.HealthReport]) -> pb.Device:
    return pb.Device(
        kind=pb.DEVICE_KIND_UNSPECIFIED,
        name=", ".join(sorted({r.device.name for r in reports if r.device.name})),
        memory_total_bytes=sum(r.device.memory_total_bytes for r in reports),
        memory_free_bytes=sum(r.device.memory_free_bytes for r in reports),
    )


def _combine_loads(reports: Sequence[pb.HealthReport], queued: int) -> pb.Load:
    combined = add_loads([report.load for report in reports])
    combined.waiting = min(combined.waiting + queued, _MOST_UINT32)
    ready = add_loads([report.load for report in reports if report.state == pb.ENDPOINT_STATE_READY])
    combined.max_running, combined.max_waiting = ready.max_running, ready.max_waiting
    return combined


def add_loads(loads: Sequence[pb.Load]) -> pb.Load:
    """The sum of loads. The usage of their KV caches is averaged, weighted by cache size."""
    sums = {name: sum(getattr(load, name) for load in loads) for name in _SUMMED}
    if all(load.max_running for load in loads):  # if one limit is unknown, so is their sum
        sums |= {name: sum(getattr(load, name) for load in loads) for name in ("max_running", "max_waiting")}
    held = sum(load.kv_cache_usage * load.kv_cache_tokens for load in loads)
    most = {name: _MOST_UINT32 if name in _UINT32 else _MOST_UINT64 for name in sums}
    combined = pb.Load(**{name: min(value, most[name]) for name, value in sums.items()})
    if rate := sum(1 / load.request_s for load in loads if load.request_s > 0):
        combined.request_s = 1 / rate
    if combined.kv_cache_tokens:
        combined.kv_cache_usage = min(1.0, held / combined.kv_cache_tokens)
    return combined
