"""Draws endpoints in a line each, for meshes of more endpoints than the terminal has room for."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from infermesh.admin.v1 import admin_pb2
from infermesh_client.cli.output.describe import device_name
from infermesh_client.cli.output.folding import new_table
from infermesh_client.cli.output.tables import message_lines, models_text, queues_line, state_text

_OTHERS = 60
"""Columns that everything beside the address needs, as far as there are so many."""
_LEAST_NAME, _LEAST_LAST = 16, 5
Last = Callable[[admin_pb2.Endpoint, int], Text]
"""Makes the last cell, which may have so many columns."""


class ShortTable:
    """One line an endpoint: address, state, device, requests, KV cache, speed, and what `last` makes."""

    def __init__(self, endpoints: Sequence[admin_pb2.Endpoint], head: str, last: Last) -> None:
        self._endpoints = endpoints
        self._head = head
        self._last = last

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        name_width = max(_LEAST_NAME, options.max_width - _OTHERS)
        names = short_names([endpoint.address for endpoint in self._endpoints], name_width)
        rows = [(name, *_cells(endpoint)) for name, endpoint in zip(names, self._endpoints, strict=True)]
        table = _table(rows)
        wide = options.update(max_width=options.max_width * 2)
        room = options.max_width - Measurement.get(console, wide, table).maximum - 2
        if room >= _LEAST_LAST:
            lasts = [self._last(endpoint, room) for endpoint in self._endpoints]
            for last in lasts:
                last.truncate(room, overflow="ellipsis")
            table = _table([(*row, last) for row, last in zip(rows, lasts, strict=True)], self._head[:room])
        yield table


def _table(rows: Iterable[Sequence[str | Text]], *last_head: str) -> Table:
    right = [Column(head, justify="right") for head in ("run/wait", "KV", "tok/s")]
    table = new_table("endpoint", "state", "device", *right, *last_head)
    for row in rows:
        table.add_row(*row)
    return table


def _cells(endpoint: admin_pb2.Endpoint) -> tuple[str | Text, ...]:
    load = endpoint.report.load
    return (
        state_text(endpoint),
        device_name(endpoint.report.device.kind),
        f"{load.running}/{load.waiting}",
        f"{load.kv_cache_usage:.0%}",
        f"{load.decode_tokens_per_s if load.running else 0:.0f}",
    )


def short_view(listing: admin_pb2.WatchEndpointsResponse) -> RenderableType:
    """What `mesh_view` says, with a line for each endpoint."""
    table = ShortTable(listing.endpoints, "models", lambda endpoint, _: Text(models_text(endpoint.report.models)))
    queues = [queues_line(listing.queues)] if listing.queues else []
    return Group(table, *message_lines(listing.endpoints), *queues)


def short_names(addresses: Sequence[str], width: int) -> Sequence[str]:
    """The addresses, in at most so many columns each: where they end alike the end is left out, else the middle."""
    if max(map(len, addresses), default=0) <= width:
        return addresses
    shared = _shared_end(addresses)
    return [_short_name(address, len(shared), width) for address in addresses]


def _shared_end(addresses: Sequence[str]) -> str:
    """What all addresses end with, from a dot or colon on; nothing for a single one."""
    if len(addresses) < 2:
        return ""
    parts = [re.split(r"(?=[.:])", address)[:0:-1] for address in addresses]
    shared = takewhile(lambda alike: len(set(alike)) == 1, zip(*parts, strict=False))
    return "".join(reversed([part for part, *_ in shared]))


def _short_name(address: str, shared: int, width: int) -> str:
    if shared:
        return f"{address[: min(len(address) - shared, width - 1)]}…"
    end = width // 2
    return f"{address[: width - end - 1]}…{address[-end:]}" if len(address) > width else address
