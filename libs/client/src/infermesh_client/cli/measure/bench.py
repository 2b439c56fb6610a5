"""Runs `infermesh bench`: measures a server with 1, 8 and 32 streams, and prints a table and one line of JSON."""

import asyncio
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from infermesh_client.bench.figures import Level
from infermesh_client.bench.load import Load
from infermesh_client.bench.streams import ask_once, measure
from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.http_target import HttpTarget, http_target
from infermesh_client.cli.output.folding import new_table
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.doctor.server import Server
from infermesh_client.told import plain, printable
from infermesh_runtime.errors import InvalidArgument, Unavailable

_ANSWER_TIMEOUT_S = 30.0
_MAX_STREAMS = 10_000
_LEGEND = (
    "Times in ms. TTFT: until the first piece of text; ITL: between two pieces;\n"
    "TPOT: for each token after the first. tokens/s: of all streams together."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What the command line says; empty values stand for defaults."""

    url: str
    model: str
    streams: Sequence[int]
    requests: int
    max_tokens: int
    device: str
    completions: bool
    api_key_file: Path | None
    timeout_s: float


def parse_streams(text: str) -> list[int]:
    """Numbers of streams, as in "1,8,32". Raises InvalidArgument."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= _MAX_STREAMS for part in parts):
        raise InvalidArgument(f"--streams must be numbers from 1 to {_MAX_STREAMS} separated by commas, not {text!r}")
    return [int(part) for part in parts]


def run_bench(options: BenchOptions) -> None:
    """Prints the table, and the JSON line last, at Ctrl-C too. Exits with 1 if no request was answered.

    Raises InfermeshError.
    """
    settings, home = load_settings()
    target = http_target(options.url, options.api_key_file, settings, home)
    with httpx.Client(verify=target.trust, trust_env=bool(options.url)) as http:
        server = Server(http, target.url, _ANSWER_TIMEOUT_S, target.key)
        shown, model = server.shown_url, options.model or server.default_model()
    load = Load(
        url=target.url,
        model=model,
        max_tokens=options.max_tokens,
        requests=options.requests,
        key=target.key,
        device=options.device,
        completions=options.completions,
    )
    levels: list[Level] = []
    interrupted = False
    try:
        asyncio.run(_measure_all(target, load, options, shown, levels))
    except KeyboardInterrupt:  # what was measured until then took its time
        interrupted = True
    if levels or not interrupted:
        _report(levels, load, shown, interrupted=interrupted)
    if interrupted:
        raise KeyboardInterrupt
    if all(level.errors == level.requests for level in levels):
        raise typer.Exit(1)


def _report(levels: Sequence[Level], load: Load, shown: str, *, interrupted: bool) -> None:
    console = SafeConsole()
    requests = "1 request" if load.requests == 1 else f"{load.requests} requests"
    heading = f"{load.model} at {shown}: {requests} a stream, at most {load.max_tokens} tokens each"
    console.print(Text(heading, style="dim"))
    console.print(levels_table(levels))
    console.print(Text(_LEGEND, style="dim"))
    if not all(level.counted for level in levels):
        console.print(Text("The server does not say how many tokens it made; pieces of text count as tokens."))
    for error in dict.fromkeys(level.error for level in levels if level.error):
        error_console().print(f"error: {error}", style="red", markup=False, soft_wrap=True)
    document = {"url": shown, "model": load.model, "device": load.device, "max_tokens": load.max_tokens}
    document |= {"interrupted": interrupted, "levels": [level.row() for level in levels]}
    print(printable(json.dumps(document, ensure_ascii=False)))


async def _measure_all(target: HttpTarget, load: Load, options: BenchOptions, shown: str, levels: list[Level]) -> None:
    """Adds each number of streams to `levels`, after a request that is not counted; Unavailable if that one fails."""
    limits = httpx.Limits(max_connections=None)
    timeout = httpx.Timeout(options.timeout_s, pool=None)
    own = not options.url
    async with httpx.AsyncClient(verify=target.trust, trust_env=not own, limits=limits, timeout=timeout) as client:
        with _progress() as progress:
            task = progress.add_task(f"loading {plain(load.model)}", total=None)
            load = await _settle(client, load, shown)
            for streams in options.streams:
                word = "stream" if streams == 1 else "streams"
                progress.reset(task, total=streams * load.requests, description=f"{streams} {word}")
                await measure(client, load, streams, levels, lambda: progress.advance(task))


async def _settle(client: httpx.AsyncClient, load: Load, shown: str) -> Load:
    """Asks once, which loads the model; the load without the fields that the server refuses. Raises Unavailable."""
    while (first := await ask_once(client, replace(load, max_tokens=1))).error:
        less = load.without_refused(first.error)
        if less is None:
            raise Unavailable(f"{shown} does not answer for {load.model!r}: {first.error}")
        load = less
    return load


def _progress() -> Progress:
    console = error_console()
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def levels_table(levels: Iterable[Level]) -> Table:
    """One row for each number of streams; times in milliseconds."""
    names = ("streams", "errors", "tokens/s", "TTFT p50", "p99", "ITL p50", "p99", "TPOT p50")
    table = new_table(*(Column(name, justify="right") for name in names))
    for level in levels:
        table.add_row(
            str(level.streams),
            f"{level.errors} of {level.requests}",
            _number(level.tokens_per_s),
            *(_number(value) for value in (level.ttft_ms_p50, level.ttft_ms_p99)),
            *(_number(value) for value in (level.itl_ms_p50, level.itl_ms_p99)),
            _number(level.tpot_ms_p50),
        )
    return table


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"
