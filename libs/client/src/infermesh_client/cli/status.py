"""Runs `infermesh status` and `infermesh health`."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from infermesh_client.cli.boundary import load_settings
from infermesh_client.cli.connection import connect
from infermesh_client.cli.output.describe import endpoint_row, queue_row, report_row
from infermesh_client.cli.output.folding import Cropped
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.cli.output.short_table import short_view
from infermesh_client.cli.output.tables import mesh_view
from infermesh_client.client import Client
from infermesh_client.mesh.supervision.supervisor import Supervisor
from infermesh_client.settings import Home
from infermesh_client.told import printable
from infermesh_runtime.errors import Unavailable, Unimplemented

_ANSWER_TIMEOUT_S = 10.0
_RETRY_S = 1.0
_ALL = "`infermesh status --once` prints them all"


def run_status(endpoint: str | None, *, once: bool, as_json: bool) -> None:
    """Prints the router's endpoints and queues, once or, on a terminal, until Ctrl-C.

    Raises Unavailable when nothing answers and Unimplemented when a worker does.
    """
    settings, home = load_settings()
    console = SafeConsole()
    problems = [] if endpoint else log_problems(home)
    with connect(endpoint, settings, timeout_s=_ANSWER_TIMEOUT_S) as client:
        try:
            listing = client.listing()
        except Unimplemented as error:
            hint = f"`infermesh health --endpoint {client.endpoint}` shows its state"
            raise Unimplemented(f"{client.endpoint} is a worker, or an address for clients; {hint}") from error
    if as_json:
        rows = {
            "endpoints": [endpoint_row(endpoint) for endpoint in listing.endpoints],
            "queues": [queue_row(queue) for queue in listing.queues],
            "log_problems": problems,
        }
        print(printable(json.dumps(rows, indent=2, ensure_ascii=False)))
    elif once or not console.is_terminal:
        console.print(mesh_view(listing))
        for problem in problems:
            console.say(problem, "red")
    else:
        with connect(endpoint, settings, timeout_s=None) as client, suppress(KeyboardInterrupt):
            _follow(client, console, problems)


def run_health(endpoint: str | None, *, check: bool, as_json: bool) -> None:
    """Prints an endpoint's health. With `check`, exits with 1 unless it is READY. Raises InfermeshError."""
    settings, home = load_settings()
    with connect(endpoint, settings, timeout_s=_ANSWER_TIMEOUT_S) as client:
        row = report_row(client.health())
    problems = [] if endpoint else log_problems(home)
    row["message"] = "; ".join(filter(None, [row["message"], *problems]))
    if as_json:
        print(printable(json.dumps(row, indent=2, ensure_ascii=False)))
    else:
        models = ", ".join(model["name"] for model in row["models"]) or "none"
        message = f" ({row['message']})" if row["message"] else ""
        print(printable(f"{row['state']}{message}; models: {models}; running: {row['load']['running']}"))
    if check and row["state"] != "READY":
        raise typer.Exit(1)


def log_problems(home: Home) -> list[str]:
    """One line for each log of this machine's mesh that cannot be written; none when no mesh runs here."""
    try:
        return Supervisor(home).log_problems()
    except OSError:
        return []


def _follow(client: Client, console: SafeConsole, problems: Sequence[str]) -> None:
    """Redraws the tables on every change, above the `problems`. When the mesh goes away, waits for it to come back."""
    below = [Text(problem, style="red") for problem in problems]
    with Live(console=console, auto_refresh=False) as live:
        while True:
            try:
                for listing in client.watch_listing():
                    whole, short = Group(mesh_view(listing), *below), Group(short_view(listing), *below)
                    live.update(Cropped(whole, short, _ALL), refresh=True)
            except Unavailable as error:
                live.update(
                    Text(f"the mesh does not answer ({error.message}); trying again every second", style="red"),
                    refresh=True,
                )
            time.sleep(_RETRY_S)
