"""Runs `infermesh top`: a view of the mesh that fills the terminal, with the last two minutes as sparklines."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from infermesh.admin.v1 import admin_pb2
from infermesh_client.aio import AsyncClient
from infermesh_client.cli.boundary import load_settings
from infermesh_client.cli.connection import beside, connect
from infermesh_client.cli.output.folding import Cropped, joined
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.cli.output.short_table import ShortTable
from infermesh_client.cli.output.tables import (
    device_text,
    library_text,
    memory_text,
    message_lines,
    models_text,
    queues_line,
    state_text,
)
from infermesh_client.cli.watch.history import SAMPLE_S, History, totals
from infermesh_client.cli.watch.quitting import quit_key
from infermesh_client.client import Client
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, Unimplemented

_LABELS = 26
"""Columns that labels and figures take."""
_RETRY_S = 1.0
_HINT = "`infermesh status --once` prints all"


def run_top(endpoint: str | None) -> None:
    """Shows the mesh until q or Ctrl-C. Raises InfermeshError when there is no terminal, or no router."""
    settings, _ = load_settings()
    console = SafeConsole()
    if not console.is_terminal:
        raise FailedPrecondition("infermesh top needs a terminal; `infermesh status --once` prints the state once")
    with connect(endpoint, settings, timeout_s=None) as client, suppress(KeyboardInterrupt):
        try:
            client.listing()
        except Unimplemented as error:
            raise Unimplemented(f"{client.endpoint} is a worker, or an address for clients") from error
        asyncio.run(_follow(client, console))


class TopView:
    """The mesh as it is in a history; `short`: with a line for each endpoint."""

    def __init__(self, history: History, *, short: bool = False) -> None:
        self._history = history
        self._short = short

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        history = self._history
        yield self._head()
        if self._short:
            yield ShortTable(history.endpoints, "tokens/s, last 2 minutes", self._rates)
        else:
            yield from self._blocks(max(10, options.max_width - _LABELS))
        yield Group(*message_lines(history.endpoints))
        if history.queues:
            yield queues_line(history.queues)
        if history.problem:
            yield Text(history.problem, style="red")

    def _blocks(self, width: int) -> Iterator[RenderableType]:
        for endpoint in self._history.endpoints:
            yield Text()
            yield from self._endpoint(endpoint, width)
        yield Text()

    def _rates(self, endpoint: admin_pb2.Endpoint, width: int) -> Text:
        return Text(self._history.drawn([*self._history.series(endpoint.address).tokens_per_s], width), style="green")

    def _head(self) -> Text:
        sums = totals(self._history.endpoints)
        figures = (
            f"{sums['tokens_per_s']:.0f} tokens/s",
            f"{sums['running']:.0f} running",
            f"{sums['waiting']:.0f} waiting",
        )
        return Text.assemble(("infermesh top", "bold"), f"   {joined(figures)}   ", (time.strftime("%H:%M:%S"), "dim"))

    def _endpoint(self, endpoint: admin_pb2.Endpoint, width: int) -> list[RenderableType]:
        report, load = endpoint.report, endpoint.report.load
        series, drawn = self._history.series(endpoint.address), self._history.drawn
        heading = Text.assemble(
            (endpoint.address, "bold"), "  ", state_text(endpoint), "  ", models_text(report.models)
        )
        about = joined((device_text(report.device), library_text(report), memory_text(report.device)))
        grid = Table.grid(
            Column(style="dim", width=9), Column(justify="right", width=14), Column(no_wrap=True), padding=(0, 1, 0, 0)
        )
        rate = load.decode_tokens_per_s if load.running else 0.0
        grid.add_row("tokens/s", f"{rate:.1f}", Text(drawn([*series.tokens_per_s], width), style="green"))
        requests = f"{load.running} + {load.waiting} wait"
        grid.add_row("requests", requests, Text(drawn([*series.requests], width), style="cyan"))
        used = f"{load.kv_cache_usage:.0%} of {load.kv_cache_tokens / 1e3:.0f}k"
        grid.add_row("KV cache", used, Text(drawn([*series.kv_cache_usage], width, most=1.0), style="magenta"))
        return [heading, Text(about, style="dim"), grid]


async def _follow(client: Client, console: Console) -> None:
    history = History()
    async with _listening(client, history):
        with quit_key() as quitting, Live(console=console, screen=True, auto_refresh=False) as live:
            while not quitting.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(quitting.wait(), SAMPLE_S)
                history.sample()
                live.update(Cropped(TopView(history), TopView(history, short=True), _HINT), refresh=True)


@asynccontextmanager
async def _listening(client: Client, history: History) -> AsyncIterator[None]:
    """Keeps the history up to date while the block runs."""
    async with beside(client) as own:
        task = asyncio.create_task(_listen(own, history))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _listen(client: AsyncClient, history: History) -> None:
    while True:
        try:
            async with aclosing(client.watch_listing()) as listings:
                async for listing in listings:
                    history.note(listing)
        except InfermeshError as error:
            history.problem = f"the mesh does not answer ({error.message}); trying again every second"
        await asyncio.sleep(_RETRY_S)
