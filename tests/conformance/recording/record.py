"""Runs unmodified clients against the recording server, and keeps what they sent: `python -m … MODULE...`.

Each MODULE has CLIENTS. What the mesh is expected to do with a request is kept from the file that is there already.
"""

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.conformance.recording.server import recording_server

FOLDER = Path(__file__).parents[3] / "libs/client/src/infermesh_client/doctor/recordings"
EXPECTED = "expected"

Calls = Iterator[tuple[str, Callable[[], object]]]
"""Titles of calls, and the calls."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client and what it is made to ask."""

    name: str
    package: str
    """The distribution that it comes from."""
    calls: Callable[[str], Calls]
    """Called with the URL of the server, without /v1."""
    asked_for: Sequence[str] = ()
    """Titles of calls whose fields a client sends only if its user asks for them one by one."""


def record(client: Client) -> dict[str, Any]:
    """What it sends, as a recording without expectations."""
    with recording_server() as server:
        for title, call in client.calls(server.url):
            server.begin(client.name, title, by_default=title not in client.asked_for)
            call()
        return document(client.name, client.package, version(client.package), server.requests[client.name])


def document(name: str, package: str, package_version: str, requests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A recording."""
    return {"client": name, "package": package, "version": package_version, "requests": list(requests)}


def path_of(name: str) -> Path:
    """The file of a client."""
    return FOLDER / f"{name}.json"


def without_expectations(recording: dict[str, Any]) -> dict[str, Any]:
    """The part of a file that is recorded."""
    requests = [{key: value for key, value in each.items() if key != EXPECTED} for each in recording["requests"]]
    return {**recording, "requests": requests}


def write(recording: dict[str, Any]) -> None:
    """Writes a file; requests keep what is expected of the mesh in the file that is there, by their titles."""
    path = path_of(recording["client"])
    known: dict[str, Any] = {}
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
        known = {each["title"]: each[EXPECTED] for each in old["requests"] if EXPECTED in each}
    requests = [
        {**each, EXPECTED: known[each["title"]]} if each["title"] in known else each for each in recording["requests"]
    ]
    text = json.dumps({**recording, "requests": requests}, indent=2, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    for module in sys.argv[1:]:
        clients: Sequence[Client] = importlib.import_module(module).CLIENTS
        for client in clients:
            write(record(client))


if __name__ == "__main__":
    main()
