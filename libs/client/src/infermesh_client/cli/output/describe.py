"""Turns the contract's messages into names and dictionaries for JSON output."""

from typing import Any

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2


def state_name(state: int) -> str:
    """The state's name, such as READY; UNKNOWN when it is not set."""
    name = _enum_name(inference_pb2.EndpointState, state, "ENDPOINT_STATE_")
    return "UNKNOWN" if name == "UNSPECIFIED" else name


def device_name(kind: int) -> str:
    """cpu, xpu or cuda; "" when it is not set."""
    name = _enum_name(inference_pb2.DeviceKind, kind, "DEVICE_KIND_").lower()
    return "" if name == "unspecified" else name


def kind_name(kind: int) -> str:
    """What a model does: generate, infer, …"""
    name = _enum_name(inference_pb2.ModelKind, kind, "MODEL_KIND_").lower()
    return "generate" if name == "unspecified" else name


def breaker_name(state: int) -> str:
    """closed, open or half-open; "" when it is not set."""
    name = _enum_name(admin_pb2.BreakerState, state, "BREAKER_STATE_").lower().replace("_", "-")
    return "" if name == "unspecified" else name


def finish_reason_name(reason: int) -> str:
    """The reason's name, such as stop or length."""
    return _enum_name(inference_pb2.FinishReason, reason, "FINISH_REASON_").lower()


def progress_text(model: inference_pb2.ModelStatus) -> str:
    """How far the model's loading is, such as "62 %, 5 s left"; "" if it is not loading, or nobody knows."""
    if not model.HasField("load_fraction"):
        return ""
    left = f", {model.load_left_s:.0f} s left" if model.HasField("load_left_s") else ""
    return f"{100 * model.load_fraction:.0f} %{left}"


def model_row(model: inference_pb2.ModelStatus) -> dict[str, Any]:
    """A served model as a dictionary."""
    return {
        "name": model.name,
        "kind": kind_name(model.kind),
        "state": state_name(model.state),
        "context_length": model.context_length,
        "size_bytes": model.size_bytes,
        "created_at": model.created_at.ToJsonString() if model.HasField("created_at") else None,
        "memory_bytes": model.memory_bytes,
        "kv_cache_bytes": model.kv_cache_bytes,
        "sequences": model.sequences,
        "pinned": model.pinned,
        "keep_alive_s": model.keep_alive_s,
        "last_used_at": model.last_used_at.ToJsonString() if model.HasField("last_used_at") else None,
        "load_fraction": model.load_fraction if model.HasField("load_fraction") else None,
        "load_left_s": model.load_left_s if model.HasField("load_left_s") else None,
    }


def available_row(model: inference_pb2.AvailableModel) -> dict[str, Any]:
    """A model that could be loaded as a dictionary."""
    return {
        "name": model.name,
        "kind": kind_name(model.kind),
        "size_bytes": model.size_bytes,
        "memory_bytes": model.memory_bytes,
        "context_length": model.context_length,
        "created_at": model.created_at.ToJsonString() if model.HasField("created_at") else None,
        "has_chat_template": model.has_chat_template if model.HasField("has_chat_template") else None,
    }


def report_row(report: inference_pb2.HealthReport) -> dict[str, Any]:
    """A health report as a dictionary."""
    load = report.load
    return {
        "state": state_name(report.state),
        "message": report.message,
        "device": {
            "kind": device_name(report.device.kind),
            "name": report.device.name,
            "memory_total_bytes": report.device.memory_total_bytes,
            "memory_free_bytes": report.device.memory_free_bytes,
        },
        "models": [model_row(model) for model in report.models],
        "available": [available_row(model) for model in report.available],
        "load": {each.name: getattr(load, each.name) for each in load.DESCRIPTOR.fields if each.message_type is None},
        "runtime": report.runtime,
        "version": report.version,
        "started_at": report.started_at.ToJsonString() if report.HasField("started_at") else None,
    }


def endpoint_row(endpoint: admin_pb2.Endpoint) -> dict[str, Any]:
    """An endpoint as a dictionary."""
    return {
        "address": endpoint.address,
        "connected": endpoint.connected,
        "report": report_row(endpoint.report) if endpoint.HasField("report") else None,
        "in_flight": endpoint.in_flight,
        "seconds_to_drain": endpoint.seconds_to_drain,
        "last_error": endpoint.last_error,
        "breaker": breaker_name(endpoint.breaker),
        "choices": dict(endpoint.choices),
        "failovers": endpoint.failovers,
        "queued_ms": round(endpoint.queued_ms, 3),
        "overhead_ms": round(endpoint.overhead_ms, 3),
        "source": endpoint.source,
    }


def queue_row(queue: admin_pb2.ModelQueue) -> dict[str, Any]:
    """A model's queue as a dictionary."""
    return {"model": queue.model, "waiting": queue.waiting, "oldest_ms": queue.oldest_ms}


def _enum_name(enum: Any, number: int, prefix: str) -> str:
    try:
        return str(enum.Name(number)).removeprefix(prefix)
    except ValueError:
        return str(number)
