"""Owns the words and figures for the contract's messages, as dictionaries for JSON and as cells for tables."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Column, Table
from rich.text import Text

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2

_FIGURES = {"run/wait": 8, "KV": 7, "tokens/s": 8, "drain": 5}
"""The table's columns of figures, and what they need."""
_STATE_STYLES = {"READY": "green", "LOADING": "yellow", "DRAINING": "yellow", "FAILED": "red"}


def state_name(state: int) -> str:
    """READY, LOADING, ...; UNKNOWN when it is not set."""
    name = _enum_name(inference_pb2.EndpointState, state, "ENDPOINT_STATE_")
    return "UNKNOWN" if name == "UNSPECIFIED" else name


def device_name(kind: int) -> str:
    """cpu, xpu, cuda; "" when it is not set."""
    name = _enum_name(inference_pb2.DeviceKind, kind, "DEVICE_KIND_").lower()
    return "" if name == "unspecified" else name


def finish_reason_name(reason: int) -> str:
    """stop, length, ..."""
    return _enum_name(inference_pb2.FinishReason, reason, "FINISH_REASON_").lower()


def model_row(model: inference_pb2.ModelStatus) -> dict[str, Any]:
    """A served model for JSON."""
    return {
        "name": model.name,
        "state": state_name(model.state),
        "context_length": model.context_length,
        "size_bytes": model.size_bytes,
        "created_at": model.created_at.ToJsonString() if model.HasField("created_at") else None,
    }


def report_row(report: inference_pb2.HealthReport) -> dict[str, Any]:
    """A health report for JSON."""
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
        "load": {descriptor.name: getattr(load, descriptor.name) for descriptor in load.DESCRIPTOR.fields},
        "runtime": report.runtime,
        "version": report.version,
        "started_at": report.started_at.ToJsonString() if report.HasField("started_at") else None,
    }


def endpoint_row(endpoint: admin_pb2.Endpoint) -> dict[str, Any]:
    """An endpoint for JSON."""
    return {
        "address": endpoint.address,
        "connected": endpoint.connected,
        "report": report_row(endpoint.report) if endpoint.HasField("report") else None,
        "in_flight": endpoint.in_flight,
        "seconds_to_drain": endpoint.seconds_to_drain,
        "last_error": endpoint.last_error,
    }


def endpoints_table(endpoints: Sequence[admin_pb2.Endpoint]) -> Table:
    """The endpoints for people, readable from 80 columns on."""
    table = Table(
        Column("endpoint", overflow="fold", min_width=15),
        Column("state", overflow="fold", min_width=11),  # UNREACHABLE
        Column("models", overflow="fold", min_width=10),
        *(Column(name, no_wrap=True, min_width=width) for name, width in _FIGURES.items()),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for endpoint in endpoints:
        report, load = endpoint.report, endpoint.report.load
        table.add_row(
            Text(f"{endpoint.address}\n{device_name(report.device.kind)} {report.device.name}".rstrip()),
            _state_cell(endpoint),
            Text("\n".join(model.name for model in report.models)),
            f"{load.running}/{load.waiting}",
            f"{load.kv_cache_usage:.0%}\nof {load.kv_cache_tokens / 1e3:.0f}k",
            f"{load.decode_tokens_per_s:.0f} out\n{load.prefill_tokens_per_s:.0f} in",
            f"{endpoint.seconds_to_drain:.1f} s",
        )
    return table


def _state_cell(endpoint: admin_pb2.Endpoint) -> Text:
    if not endpoint.connected:
        return Text(f"UNREACHABLE {endpoint.last_error}".strip(), style="red")
    name = state_name(endpoint.report.state)
    return Text(f"{name} {endpoint.report.message}".strip(), style=_STATE_STYLES.get(name, ""))


def _enum_name(enum: Any, number: int, prefix: str) -> str:
    try:
        return str(enum.Name(number)).removeprefix(prefix)
    except ValueError:
        return str(number)
