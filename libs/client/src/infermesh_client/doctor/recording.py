"""Reads the recordings: the requests that unmodified clients sent to a server that wrote them down."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec

_FOLDER = "recordings"
_SUFFIX = ".json"


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an infermesh mesh does with a request. The mesh's own tests check it."""

    status: int = 200
    ignored: Sequence[str] = ()
    """Fields that have no effect, as `Recording` paths name them: messages[].name."""
    refused: Sequence[str] = ()


class RecordedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request."""

    title: str
    """What the client was made to do."""
    method: str
    path: str
    """With its query, as in /v1/messages?beta=true."""
    body: dict[str, Any] | None = None
    headers: dict[str, str] = {}
    """Those that say how the body is to be read."""
    by_default: bool = True
    """Whether the client sends these fields without being told to, one by one."""
    expected: Expected = Expected()


class Recording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one client sends."""

    client: str
    package: str
    """The package that was run; for a client that was not, what its requests were written after."""
    version: str
    requests: Sequence[RecordedRequest]
    sources: Sequence[str] = ()
    """Pages that show the requests of a client that was not run."""


def client_names() -> list[str]:
    """The clients that have a recording, sorted."""
    names = (entry.name for entry in files(__package__).joinpath(_FOLDER).iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))


def load_recording(client: str) -> Recording:
    """The recording of a client, one of `client_names`."""
    data = files(__package__).joinpath(_FOLDER, client + _SUFFIX).read_bytes()
    return msgspec.json.decode(data, type=Recording)
