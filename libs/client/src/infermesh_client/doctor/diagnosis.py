"""Says of each field of a recorded request whether a server honours, ignores or refuses it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from infermesh_client.doctor.dialects import dialect_of, prepare
from infermesh_client.doctor.fields import list_fields, without_positions
from infermesh_client.doctor.probing import Found, find_refused
from infermesh_client.doctor.recording import RecordedRequest
from infermesh_client.doctor.reply import IGNORED_HEADER, Reply
from infermesh_client.doctor.server import Server

_MODEL = "MODEL"
_USAGE = "stream_options.include_usage"


class Outcome(StrEnum):
    """What becomes of a field."""

    WORKS = "works"
    ACCEPTED = "accepted"
    """The server takes it, and is none that says which fields it ignores."""
    IGNORED = "ignored"
    REFUSED = "refused"
    UNTRIED = "untried"
    """It could not be tried, because of what was refused."""


@dataclass(frozen=True, slots=True)
class FieldResult:
    """One field."""

    name: str
    outcome: Outcome
    note: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One request."""

    request: RecordedRequest
    status: int
    """The status of the answer to the whole request; 0 if none came."""
    fields: Sequence[FieldResult]
    problem: str = ""
    """Why no whole answer came, even without the refused fields; "" if one did."""

    @property
    def is_good(self) -> bool:
        """Whether a whole answer came and nothing was refused."""
        return not self.problem and not self.named(Outcome.REFUSED)

    def named(self, outcome: Outcome) -> list[str]:
        """The names of the fields with an outcome."""
        return [each.name for each in self.fields if each.outcome is outcome]


def diagnose(server: Server, request: RecordedRequest, model: str) -> Diagnosis:
    """Sends the request as often as it takes. Raises Unreachable and Unauthenticated."""
    path = request.path.replace(_MODEL, model)
    if request.body is None:
        reply = server.send(request.method, path, None, request.headers)
        return Diagnosis(request, reply.status, (), "" if reply.is_ok else reply.describe())

    def send(body: Mapping[str, Any]) -> Reply:
        return server.send(request.method, path, body, request.headers)

    dialect = dialect_of(path)
    found = find_refused(send, prepare(request.body, dialect, model), dialect)
    names = [name for name in list_fields(request.body) if name not in dialect.required]
    results = [_judge(name, found) for name in names]
    return Diagnosis(request, found.status, results, "" if found.reply.is_ok else found.reply.describe())


def _judge(name: str, found: Found) -> FieldResult:
    if name in found.refused:
        return FieldResult(name, Outcome.REFUSED, found.refused[name])
    if name not in list_fields(found.body):
        return FieldResult(name, Outcome.UNTRIED, "left out with what was refused")
    if not found.reply.is_ok:
        return FieldResult(name, Outcome.UNTRIED)
    if any(_is_in(name, ignored) for ignored in _ignored(found.reply)):
        return FieldResult(name, Outcome.IGNORED)
    if name == _USAGE and found.body["stream_options"]["include_usage"] and not found.reply.has_usage:
        return FieldResult(name, Outcome.IGNORED, "no chunk had the usage")
    return FieldResult(name, Outcome.WORKS if found.reply.is_from_mesh else Outcome.ACCEPTED)


def _ignored(reply: Reply) -> list[str]:
    listed = unquote(reply.headers.get(IGNORED_HEADER, ""))
    return [without_positions(name) for part in listed.split(",") if (name := part.strip())]


def _is_in(name: str, outer: str) -> bool:
    """Whether a field is another one, or stands in it."""
    return name == outer or name.startswith((f"{outer}.", f"{outer}[")) or f"{name}[]" == outer
