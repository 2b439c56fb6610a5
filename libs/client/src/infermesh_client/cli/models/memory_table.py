"""Draws the loaded models for `infermesh models`: their memory, and how long they stay."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Column, Table
from rich.text import Text

from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.output.describe import progress_text, state_name
from infermesh_client.cli.output.folding import joined, new_table, size_text

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_NEVER = "never"


def memory_table(served: Sequence[inference_pb2.ModelStatus], now: datetime) -> Table:
    """One row a model: weights, most memory for its KV cache, all memory, whether it is pinned, idle time.

    `now` has a time zone.
    """
    sizes = [Column(name, justify="right") for name in ("weights", "KV cache", "memory")]
    times = [Column(name, justify="right") for name in ("idle", "unloaded after")]
    table = new_table("loaded", "state", *sizes, "pinned", *times)
    for model in sorted(served, key=lambda model: model.name):
        table.add_row(
            Text(model.name),
            loading_state(model),
            size_text(model.size_bytes),
            _up_to(model.kv_cache_bytes),
            size_text(model.memory_bytes),
            "yes" if model.pinned else "no",
            _idle(model, now),
            _unloaded_after(model),
        )
    return table


def memory_lines(model: inference_pb2.ModelStatus, now: datetime) -> Sequence[tuple[str, str]]:
    """The same as labelled lines, for a block."""
    memory = (
        f"{size_text(model.memory_bytes)} · weights {size_text(model.size_bytes)} · "
        f"KV cache {_up_to(model.kv_cache_bytes)}"
    )
    stays = f"unloaded after {_unloaded_after(model)}" if _unloaded_after(model) != _NEVER else "never unloaded"
    use = joined((_idle(model, now, "idle "), "pinned" if model.pinned else "", stays))
    return [("memory", memory), ("use", use)]


def loading_state(model: inference_pb2.ModelStatus) -> str:
    """Its state, and how far it is if it is being loaded."""
    return joined((state_name(model.state), progress_text(model)), " ")


def _up_to(most_bytes: int) -> str:
    """A KV cache grows as it is used: much of it may be memory that nothing holds yet."""
    return f"up to {size_text(most_bytes)}" if most_bytes else "-"


def _unloaded_after(model: inference_pb2.ModelStatus) -> str:
    return _duration(model.keep_alive_s) if model.keep_alive_s and not model.pinned else _NEVER


def _idle(model: inference_pb2.ModelStatus, now: datetime, prefix: str = "") -> str:
    if model.sequences:
        return "in use"
    if not model.HasField("last_used_at"):
        return "unused"
    return prefix + _duration(max(0.0, (now - model.last_used_at.ToDatetime(UTC)).total_seconds()))


def _duration(seconds: float) -> str:
    """A duration in its largest unit, such as 45 s or 2 h."""
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"
