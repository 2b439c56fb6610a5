"""Draws the tables of `infermesh status`: endpoints, routing and waiting requests."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from infermesh.admin.v1 import admin_pb2
from infermesh_client.cli.describe import breaker_name, device_name, progress_text, state_name

_FIGURES = {"run/wait": 8, "KV": 7, "tokens/s": 8, "drain": 5}
"""Columns of figures in the first table, and their width in characters."""
_STATE_STYLES = {"READY": "green", "LOADING": "yellow", "DRAINING": "yellow", "FAILED": "red"}
_BREAKER_STYLES = {"open": "red", "half-open": "yellow"}
_THOUSAND = 1000


def mesh_view(listing: admin_pb2.ListEndpointsResponse | admin_pb2.WatchEndpointsResponse) -> RenderableType:
    """Both tables of the endpoints, and a line for waiting requests; readable on terminals of 80 columns or more."""
    parts: list[RenderableType] = [endpoints_table(listing.endpoints), routing_table(listing.endpoints)]
    if listing.queues:
        parts.append(_queues_line(listing.queues))
    return Group(*parts)


def endpoints_table(endpoints: Sequence[admin_pb2.Endpoint]) -> Table:
    """What each endpoint reports: state, models, load and speed."""
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
            Text("\n".join(f"{model.name} {progress_text(model)}".strip() for model in report.models)),
            f"{load.running}/{load.waiting}",
            f"{load.kv_cache_usage:.0%}\nof {load.kv_cache_tokens / 1e3:.0f}k",
            f"{load.decode_tokens_per_s:.0f} out\n{load.prefill_tokens_per_s:.0f} in",
            f"{endpoint.seconds_to_drain:.1f} s",
        )
    return table


def routing_table(endpoints: Sequence[admin_pb2.Endpoint]) -> Table:
    """How the router treats each endpoint: breaker, requests in flight, reasons for choosing it, times."""
    table = Table(
        Column("endpoint", overflow="fold", min_width=15),
        "source",
        "breaker",
        Column("in flight", justify="right"),
        Column("chosen for", overflow="fold", min_width=12),
        Column("queued", justify="right", no_wrap=True),
        Column("overhead", justify="right", no_wrap=True),
        Column("cached", justify="right", no_wrap=True),
        Column("moved", justify="right"),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for endpoint in endpoints:
        breaker = breaker_name(endpoint.breaker)
        table.add_row(
            Text(endpoint.address),
            endpoint.source,
            Text(breaker, style=_BREAKER_STYLES.get(breaker, "")),
            str(endpoint.in_flight),
            Text("\n".join(f"{reason} {count}" for reason, count in _most_first(endpoint.choices.items()))),
            f"{endpoint.queued_ms:.0f} ms",
            f"{endpoint.overhead_ms:.1f} ms",
            _short(endpoint.report.load.cached_tokens),
            str(endpoint.failovers),
        )
    return table


def _queues_line(queues: Iterable[admin_pb2.ModelQueue]) -> Text:
    waiting = (f"{q.waiting} for {q.model or 'any model'} (oldest {q.oldest_ms / _THOUSAND:.1f} s)" for q in queues)
    return Text(f"waiting: {', '.join(waiting)}", style="yellow")


def _state_cell(endpoint: admin_pb2.Endpoint) -> Text:
    if not endpoint.connected:
        return Text(f"UNREACHABLE {endpoint.last_error}".strip(), style="red")
    name = state_name(endpoint.report.state)
    return Text(f"{name} {endpoint.report.message}".strip(), style=_STATE_STYLES.get(name, ""))


def _most_first(choices: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(choices, key=lambda choice: (-choice[1], choice[0]))


def _short(count: int) -> str:
    """Shortens a count to the form 999, 12.3k or 4.5M."""
    if count < _THOUSAND:
        return str(count)
    thousands = count / _THOUSAND
    return f"{thousands:.1f}k" if thousands < _THOUSAND else f"{thousands / _THOUSAND:.1f}M"
