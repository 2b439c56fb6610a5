"""Runs `infermesh drain` and `infermesh resume`."""

from collections.abc import Iterator
from contextlib import contextmanager

from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.connection import connect
from infermesh_client.cli.output.waiting import waiting_line
from infermesh_client.client import Client
from infermesh_runtime.errors import Unimplemented

_ANSWER_TIMEOUT_S = 20.0


def run_drain(address: str, router: str | None, *, move_after_s: float | None) -> None:
    """Drains the endpoint and waits until no request runs on it. Raises InfermeshError."""
    console = error_console()
    with _router(router, timeout_s=None) as client:
        console.say(f"Draining {address}. Ctrl-C stops waiting; the endpoint stays out of service.")
        with waiting_line(console, "Waiting for its requests to end"):
            moved = client.drain_endpoint(address, move_after_s=move_after_s)
    count = f"; {moved} {'stream was' if moved == 1 else 'streams were'} moved" if moved else ""
    console.say(f"Drained {address}: no request runs on it{count}.")


def run_resume(address: str, router: str | None) -> None:
    """Puts the endpoint back into service. Raises InfermeshError."""
    with _router(router, timeout_s=_ANSWER_TIMEOUT_S) as client:
        client.resume_endpoint(address)
    error_console().say(f"{address} is back in service.")


@contextmanager
def _router(address: str | None, *, timeout_s: float | None) -> Iterator[Client]:
    settings, _ = load_settings()
    with connect(address, settings, timeout_s=timeout_s) as client:
        try:
            client.listing()
        except Unimplemented as error:
            raise Unimplemented(
                f"{client.endpoint} is a worker, or an address for clients; give a router's admin address as --endpoint"
            ) from error
        yield client
