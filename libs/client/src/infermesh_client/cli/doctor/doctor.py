"""Runs `infermesh doctor`: replays what a client sends, and says what becomes of each field."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import typer

from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.connection import start_hint
from infermesh_client.cli.doctor.report import check_row, clients_table, request_view, summary_line
from infermesh_client.cli.http_target import http_target
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.cli.output.waiting import waiting_line
from infermesh_client.doctor.diagnosis import Diagnosis, diagnose
from infermesh_client.doctor.recording import Recording, client_names, load_recording
from infermesh_client.doctor.server import Server, Unreachable
from infermesh_client.told import printable
from infermesh_runtime.errors import NotFound

ALL = "all"
_UNREACHABLE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions:
    """What the command line says; empty values stand for defaults."""

    url: str = ""
    model: str = ""
    api_key_file: Path | None = None
    timeout_s: float
    as_json: bool = False


def run_doctor(client: str, options: DoctorOptions) -> None:
    """Checks one client, or all of them; "" lists them.

    Exits with 1 if the server refuses what a client sends by default, and with 2 if there is no server. Raises NotFound
    for an unknown client, and InfermeshError.
    """
    if not client:
        _list(as_json=options.as_json)
        return
    recordings = [load_recording(name) for name in _chosen(client)]
    settings, home = load_settings()
    target = http_target(options.url, options.api_key_file, settings, home)
    with httpx.Client(verify=target.trust, trust_env=bool(options.url)) as http:
        server = Server(http, target.url, options.timeout_s, target.key)
        try:
            model = options.model or server.default_model()
            results = _check(server, recordings, model, as_json=options.as_json)
        except Unreachable as error:
            hint = "check the URL" if options.url else start_hint(home)
            error_console().say(f"error: {error.message}; {hint}", "red")
            raise typer.Exit(_UNREACHABLE) from None
    if options.as_json:
        rows = [check_row(recording, found) for recording, found in zip(recordings, results, strict=True)]
        told = {"url": server.shown_url, "model": model, "clients": rows}
        print(printable(json.dumps(told, indent=2, ensure_ascii=False)))
    if not all(each.is_good for found in results for each in found if each.request.by_default):
        raise typer.Exit(1)


def _check(server: Server, recordings: Sequence[Recording], model: str, *, as_json: bool) -> list[Sequence[Diagnosis]]:
    """What came of each client's requests; prints them as they come, unless the output is to be JSON."""
    console = SafeConsole(quiet=as_json)
    console.say(f"Asking {model} at {server.shown_url}")
    results: list[Sequence[Diagnosis]] = []
    for recording in recordings:
        console.say(f"\n{recording.client} ({recording.package} {recording.version})", "bold")
        found = []
        for request in recording.requests:
            with waiting_line(error_console(), f"Trying: {request.title}"):
                found.append(diagnose(server, request, model))
            console.print(request_view(found[-1]))
        console.say(summary_line(recording, found))
        results.append(found)
    return results


def _list(*, as_json: bool) -> None:
    recordings = [load_recording(name) for name in client_names()]
    if as_json:
        rows = [
            {"client": each.client, "package": each.package, "version": each.version, "requests": len(each.requests)}
            for each in recordings
        ]
        print(json.dumps(rows, indent=2))
        return
    SafeConsole().print(clients_table(recordings))


def _chosen(client: str) -> Sequence[str]:
    known = client_names()
    if client == ALL:
        return known
    if client not in known:
        raise NotFound(f"there is no recording of {client!r}; there are: {', '.join(known)}")
    return [client]
