"""Draws what `infermesh status` shows: endpoints, how requests were routed, warnings, and waiting requests."""

import re
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.output.describe import breaker_name, device_name, progress_text, state_name
from infermesh_client.cli.output.folding import Block, Folding, joined, new_table, size_text

_STATE_STYLES = {"READY": "green", "LOADING": "yellow", "DRAINING": "yellow", "FAILED": "red"}
_BREAKER_STYLES = {"open": "red", "half-open": "yellow"}
_THOUSAND = 1000
_UNREACHABLE = "UNREACHABLE"
_NAMED = 2
"""Most endpoints that are named before one message; of more, their number is."""
_LACKS = re.compile(r"(, )?(?P<what>running on [^()]*no accelerator[^()]*)(?P<end>\)?)$")
"""What worker-xpu says at the end of its runtime where torch found no accelerator."""


def mesh_view(listing: admin_pb2.ListEndpointsResponse | admin_pb2.WatchEndpointsResponse) -> RenderableType:
    """The endpoints, their warnings, and what waits: tables where the terminal is wide enough, else lines."""
    endpoints = listing.endpoints
    tables = (_endpoints_table(endpoints), _routing_table(endpoints))
    parts: list[RenderableType] = [Folding(tables, [_block(endpoint, routing=True) for endpoint in endpoints])]
    parts += message_lines(endpoints)
    if listing.queues:
        parts.append(queues_line(listing.queues))
    return Group(*parts)


def endpoints_view(endpoints: Sequence[admin_pb2.Endpoint]) -> RenderableType:
    """What each endpoint reports: state, device, models, load and speed; and its warnings."""
    blocks = [_block(endpoint, routing=False) for endpoint in endpoints]
    return Group(Folding([_endpoints_table(endpoints)], blocks), *message_lines(endpoints))


def _endpoints_table(endpoints: Sequence[admin_pb2.Endpoint]) -> Table:
    table = new_table("endpoint", "state", "runtime", "memory", "models", "run/wait", "KV", "tokens/s", "drain")
    for endpoint in endpoints:
        report, load = endpoint.report, endpoint.report.load
        table.add_row(
            Text(joined((endpoint.address, device_text(report.device)), "\n")),
            state_text(endpoint),
            Text(library_text(report).replace(" ", "\n", 1)),
            memory_text(report.device, "\n"),
            Text("\n".join(_models(report.models))),
            f"{load.running}/{load.waiting}",
            f"{load.kv_cache_usage:.0%}\nof {load.kv_cache_tokens / 1e3:.0f}k",
            f"{load.decode_tokens_per_s:.0f} out\n{load.prefill_tokens_per_s:.0f} in",
            f"{endpoint.seconds_to_drain:.1f} s",
        )
    return table


def _routing_table(endpoints: Sequence[admin_pb2.Endpoint]) -> Table:
    """How the router treats each endpoint: breaker, requests in flight, reasons for choosing it, times."""
    right = [Column(name, justify="right") for name in ("queued", "overhead", "cached", "moved")]
    table = new_table("endpoint", "source", "breaker", Column("in flight", justify="right"), "chosen for", *right)
    for endpoint in endpoints:
        table.add_row(
            Text(endpoint.address),
            endpoint.source,
            _breaker(endpoint),
            str(endpoint.in_flight),
            Text("\n".join(_choices(endpoint))),
            f"{endpoint.queued_ms:.0f} ms",
            f"{endpoint.overhead_ms:.1f} ms",
            short_count(endpoint.report.load.cached_tokens),
            str(endpoint.failovers),
        )
    return table


def _block(endpoint: admin_pb2.Endpoint, *, routing: bool) -> Block:
    report, load = endpoint.report, endpoint.report.load
    lines: list[tuple[str, str | Text]] = [
        ("device", joined((device_text(report.device), memory_text(report.device)))),
        ("runtime", _runtime_text(report)),
        ("models", models_text(report.models)),
        (
            "load",
            f"{load.running} running, {load.waiting} waiting · "
            f"KV cache {load.kv_cache_usage:.0%} of {load.kv_cache_tokens / 1e3:.0f}k tokens · "
            f"{endpoint.seconds_to_drain:.1f} s to drain",
        ),
        ("tokens/s", f"{load.decode_tokens_per_s:.0f} out, {load.prefill_tokens_per_s:.0f} in"),
    ]
    if routing:
        lines += [
            ("router", Text.assemble("breaker ", _breaker(endpoint), f" · {_routing(endpoint)}")),
            ("on average", _averages(endpoint)),
            ("chosen for", ", ".join(_choices(endpoint))),
        ]
    return Block(Text.assemble((endpoint.address, "bold"), "  ", state_text(endpoint)), lines)


def _routing(endpoint: admin_pb2.Endpoint) -> str:
    cached = short_count(endpoint.report.load.cached_tokens)
    return f"{endpoint.in_flight} in flight · {endpoint.source} · {cached} tokens cached · {endpoint.failovers} moved"


def _averages(endpoint: admin_pb2.Endpoint) -> str:
    return f"queued {endpoint.queued_ms:.0f} ms · router {endpoint.overhead_ms:.1f} ms"


def message_lines(endpoints: Iterable[admin_pb2.Endpoint]) -> list[Text]:
    """What the user should know about endpoints, such as that one has no accelerator, or why it is not connected."""
    told: dict[tuple[str, bool], list[str]] = {}
    for endpoint in endpoints:
        for message in _warnings(endpoint):
            told.setdefault((message, endpoint.connected), []).append(endpoint.address)
    return [
        Text(f"{_several(addresses)}: {message}", style="yellow" if connected else "red")
        for (message, connected), addresses in told.items()
    ]


def _several(addresses: Sequence[str]) -> str:
    return ", ".join(addresses) if len(addresses) <= _NAMED else f"{len(addresses)} endpoints"


def _warnings(endpoint: admin_pb2.Endpoint) -> list[str]:
    if not endpoint.connected:
        return [endpoint.last_error] if endpoint.last_error else []
    lacks = _LACKS.search(endpoint.report.runtime)
    return [*filter(None, [endpoint.report.message]), *([lacks["what"]] if lacks else [])]


def library_text(report: inference_pb2.HealthReport) -> str:
    """The library that runs the models, and its version."""
    return report.runtime.partition(" (")[0]


def _runtime_text(report: inference_pb2.HealthReport) -> str:
    """What a worker says of its library, without what `_warnings` says of it."""
    return _LACKS.sub(r"\g<end>", report.runtime).replace(" ()", "")


def queues_line(queues: Iterable[admin_pb2.ModelQueue]) -> Text:
    """What waits in the router, for which model, and how long."""
    waiting = (f"{q.waiting} for {q.model or 'any model'} (oldest {q.oldest_ms / _THOUSAND:.1f} s)" for q in queues)
    return Text(f"waiting: {', '.join(waiting)}", style="yellow")


def device_text(device: inference_pb2.Device) -> str:
    """The device's kind and name."""
    return joined((device_name(device.kind), device.name), " ")


def memory_text(device: inference_pb2.Device, separator: str = " ") -> str:
    """What is free of the device's memory; empty if it is not known."""
    if not device.memory_total_bytes:
        return ""
    return f"{size_text(device.memory_free_bytes)} free{separator}of {size_text(device.memory_total_bytes)}"


def models_text(models: Iterable[inference_pb2.ModelStatus]) -> str:
    """The models' names, and how far those that load are."""
    return ", ".join(_models(models))


def _models(models: Iterable[inference_pb2.ModelStatus]) -> list[str]:
    return [joined((model.name, progress_text(model)), " ") for model in models]


def state_text(endpoint: admin_pb2.Endpoint) -> Text:
    """The endpoint's state, or that it cannot be reached."""
    if not endpoint.connected:
        return Text(_UNREACHABLE, style="red")
    name = state_name(endpoint.report.state)
    return Text(name, style=_STATE_STYLES.get(name, ""))


def _breaker(endpoint: admin_pb2.Endpoint) -> Text:
    name = breaker_name(endpoint.breaker)
    return Text(name, style=_BREAKER_STYLES.get(name, ""))


def _choices(endpoint: admin_pb2.Endpoint) -> list[str]:
    """The reasons for choosing the endpoint with their counts, the most frequent ones first."""
    most_first = sorted(endpoint.choices.items(), key=lambda choice: (-choice[1], choice[0]))
    return [f"{reason} {count}" for reason, count in most_first]


def short_count(count: int) -> str:
    """Shortens a count to the form 999, 12.3k or 4.5M."""
    if count < _THOUSAND:
        return str(count)
    thousands = count / _THOUSAND
    return f"{thousands:.1f}k" if thousands < _THOUSAND else f"{thousands / _THOUSAND:.1f}M"
