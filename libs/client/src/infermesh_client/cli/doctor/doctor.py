"""Runs `infermesh doctor`: replays what a client sends, and says what becomes of each field."""

import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import typer
from rich.console import Console

from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.doctor.report import check_row, clients_table, request_view, summary_line
from infermesh_client.doctor.diagnosis import Diagnosis, diagnose
from infermesh_client.doctor.recording import Recording, client_names, load_recording
from infermesh_client.doctor.server import Server, Unreachable
from infermesh_client.mesh.rest import rest_url, trust
from infermesh_client.mesh.state import read_state
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import InvalidArgument, NotFound

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
    with httpx.Client(verify=_trust(options, settings, home), trust_env=bool(options.url)) as http:
        server = Server(http, _url(options, settings, home), options.timeout_s, _key(options, settings))
        try:
            model = options.model or server.default_model()
            results = _check(server, recordings, model, as_json=options.as_json)
        except Unreachable as error:
            hint = "check the URL" if options.url else "`infermesh up` starts a mesh"
            error_console().print(f"error: {error.message}; {hint}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(_UNREACHABLE) from None
    if options.as_json:
        rows = [check_row(recording, found) for recording, found in zip(recordings, results, strict=True)]
        print(json.dumps({"url": server.shown_url, "model": model, "clients": rows}, indent=2, ensure_ascii=False))
    if not all(each.is_good for found in results for each in found if each.request.by_default):
        raise typer.Exit(1)


def _check(server: Server, recordings: Sequence[Recording], model: str, *, as_json: bool) -> list[Sequence[Diagnosis]]:
    """What came of each client's requests; prints them as they come, unless the output is to be JSON."""
    console = Console(highlight=False, quiet=as_json)
    console.print(f"Asking {model} at {server.shown_url}", markup=False, soft_wrap=True)
    results: list[Sequence[Diagnosis]] = []
    for recording in recordings:
        console.print(f"\n{recording.client} ({recording.package} {recording.version})", style="bold", markup=False)
        found = []
        for request in recording.requests:
            found.append(diagnose(server, request, model))
            console.print(request_view(found[-1]))
        console.print(summary_line(recording, found), markup=False, soft_wrap=True)
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
    Console(highlight=False).print(clients_table(recordings))


def _chosen(client: str) -> Sequence[str]:
    known = client_names()
    if client == ALL:
        return known
    if client not in known:
        raise NotFound(f"there is no recording of {client!r}; there are: {', '.join(known)}")
    return [client]


def _url(options: DoctorOptions, settings: ClientSettings, home: Home) -> str:
    """The URL that was given, or that of this user's mesh, unless INFERMESH_HTTP_PORT names another one's port."""
    if options.url:
        return options.url
    state = read_state(home)
    named = f"127.0.0.1:{settings.http_port}"
    if state is None or ("http_port" in settings.model_fields_set and state.http != named):
        return f"http://{named}"
    return rest_url(state)


def _trust(options: DoctorOptions, settings: ClientSettings, home: Home) -> ssl.SSLContext | bool:
    state = None if options.url else read_state(home)
    if state is not None and rest_url(state) == _url(options, settings, home):
        return trust(state)
    return ssl.create_default_context(cafile=settings.tls_ca) if settings.tls_ca else True


def _key(options: DoctorOptions, settings: ClientSettings) -> str:
    """The key in the file. INFERMESH_API_KEY is for this machine's mesh, and is shown to no other server."""
    if options.api_key_file is None:
        return _checked(settings.api_key, "INFERMESH_API_KEY") if settings.api_key and not options.url else ""
    try:
        key = options.api_key_file.expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"the file of the API key cannot be read: {error}") from None
    return _checked(key, str(options.api_key_file))


def _checked(text: str, where: str) -> str:
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidArgument(f"{where} must hold one API key, on one line")
    return key
