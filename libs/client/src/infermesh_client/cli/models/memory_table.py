"""Draws the table of loaded models for `infermesh models`: their memory, and how long they stay."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich import box
from rich.table import Column, Table

from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.describe import progress_text, state_name

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def memory_table(served: Sequence[inference_pb2.ModelStatus], now: datetime) -> Table:
    """One row a model: weights, memory reserved for its KV cache, all memory, whether it is pinned, idle time.

    `now` has a time zone.
    """
    table = Table(
        Column("loaded", no_wrap=True),
        "state",
        Column("weights", justify="right", no_wrap=True),
        Column("KV cache", justify="right", no_wrap=True),
        Column("memory", justify="right", no_wrap=True),
        "pinned",
        Column("idle", justify="right", no_wrap=True),
        Column("unloaded after", justify="right", no_wrap=True),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for model in sorted(served, key=lambda model: model.name):
        table.add_row(
            model.name,
            f"{state_name(model.state)} {progress_text(model)}".strip(),
            _size(model.size_bytes),
            _size(model.kv_cache_bytes),
            _size(model.memory_bytes),
            "yes" if model.pinned else "no",
            _idle(model, now),
            _duration(model.keep_alive_s) if model.keep_alive_s and not model.pinned else "never",
        )
    return table


def _idle(model: inference_pb2.ModelStatus, now: datetime) -> str:
    if model.sequences:
        return "in use"
    if not model.HasField("last_used_at"):
        return "unused"
    return _duration(max(0.0, (now - model.last_used_at.ToDatetime(UTC)).total_seconds()))


def _size(size_bytes: int) -> str:
    """A size in MB or GB; "-" if it is not known."""
    if not size_bytes:
        return "-"
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    """A duration in its largest unit, such as 45 s or 2 h."""
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"
