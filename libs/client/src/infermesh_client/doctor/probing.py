"""Finds which fields of a refused request are the cause, by leaving fields out and asking again."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from infermesh_client.doctor.dialects import COMPANIONS, Dialect
from infermesh_client.doctor.fields import Place, find_place, list_fields, name_of, without
from infermesh_client.doctor.reply import Reply

Body = Mapping[str, Any]
Send = Callable[[Body], Reply]

_MAX_ROUNDS = 16
"""How many causes of one request are looked for."""
_QUOTED = re.compile(r"""['"`]([A-Za-z_][\w.\[\]]*)['"`]""")


@dataclass(slots=True)
class Found:
    """What was found."""

    body: Body
    """What is left of the request."""
    reply: Reply
    """The answer to that; a refusal if no part of the request helps."""
    status: int
    """The status of the answer to the whole request; 0 if none came."""
    refused: dict[str, str] = field(default_factory=dict)
    """Names of refused fields, and what the server said."""


def find_refused(send: Send, body: Body, dialect: Dialect) -> Found:
    """Leaves out what the server refuses, until it does not refuse, or nothing helps."""
    reply = send(body)
    found = Found(body, reply, reply.status)
    for _ in range(_MAX_ROUNDS):
        if not found.reply.is_refusal:
            break
        if not (_leave_out_named(send, found, dialect) or _leave_out_one(send, found, dialect)):
            _add_one_by_one(send, found, dialect)
            break
    return found


def strip(body: Body, place: Place) -> dict[str, Any]:
    """A copy without the field at a place, and without what only has a meaning beside it."""
    made = without(body, place)
    for name, companions in COMPANIONS.items():
        if name in body and name not in made:
            made = {key: value for key, value in made.items() if key not in companions}
    return made


def _leave_out_named(send: Send, found: Found, dialect: Dialect) -> bool:
    """Leaves out the field that the error names, or else what it stands in. Returns whether that helped."""
    named = _named_place(found.reply, found.body)
    if named is None:
        return False
    for length in range(len(named), 0, -1):
        trial = strip(found.body, named[:length])
        if not dialect.required & found.body.keys() <= trial.keys():
            return False
        reply = send(trial)
        next_named = _named_place(reply, trial) or ()
        if not reply.is_refusal or next_named != named[: len(next_named)]:  # if it is, what holds it is missed now
            found.refused[_listed_name(named, found.body)] = found.reply.message
            found.body, found.reply = trial, reply
            return True
    return False


def _listed_name(place: Place, body: Body) -> str:
    """The name of the field at a place, or of what holds it if its name is not the API's."""
    listed = list_fields(body)
    names = [name_of(place[:length]) for length in range(len(place), 0, -1)]
    return next(name for name in names if name in listed)


def _named_place(reply: Reply, body: Body) -> Place | None:
    """Where the field stands that an error names: as its `param`, or in quotes in its message."""
    for name in (reply.param, *_QUOTED.findall(reply.message)):
        if name and (place := find_place(body, name)):
            return place
    return None


def _leave_out_one(send: Send, found: Found, dialect: Dialect) -> bool:
    """Leaves out one field after the other. Returns whether one of them is the only cause."""
    for name in _optional(found.body, dialect):
        trial = strip(found.body, (name,))
        reply = send(trial)
        if not reply.is_ok:  # 429, 5xx or nothing says not that the field is the cause
            continue
        for inner, places in _inner(found.body, name):
            smaller: dict[str, Any] = dict(found.body)
            for place in reversed(places):
                smaller = without(smaller, place)
            if name in smaller and (answer := send(smaller)).is_ok:
                found.refused[inner] = found.reply.message
                found.body, found.reply = smaller, answer
                return True
        found.refused[name] = found.reply.message
        found.body, found.reply = trial, reply
        return True
    return False


def _add_one_by_one(send: Send, found: Found, dialect: Dialect) -> None:
    """Begins with what no request can do without, and adds each field that is accepted.

    Stops at an answer that neither accepts nor refuses, as it says nothing of a field.
    """
    whole, optional = found.body, _optional(found.body, dialect)
    kept = {name: value for name, value in whole.items() if name not in optional}
    reply = send(kept)
    if not reply.is_ok:
        found.reply = found.reply if reply.is_refusal else reply
        return
    messages: dict[str, str] = {}
    unclear: Reply | None = None
    while unclear is None:
        added = 0
        for name in [name for name in optional if name not in kept]:
            answer = send({**kept, name: whole[name]})
            if answer.is_refusal:
                messages[name] = answer.message
                continue
            if not answer.is_ok:
                unclear = answer
                break
            kept, reply, added = {**kept, name: whole[name]}, answer, added + 1
        if not added:
            break
    lacking = {name for outer, inner in COMPANIONS.items() if outer in whole and outer not in kept for name in inner}
    found.refused |= {name: told for name, told in messages.items() if name not in kept and name not in lacking}
    found.body, found.reply = (kept, reply) if unclear is None else (found.body, unclear)


def _optional(body: Body, dialect: Dialect) -> list[str]:
    return [name for name in body if name not in dialect.required]


def _inner(body: Body, name: str) -> Iterator[tuple[str, list[Place]]]:
    """The fields in a field, innermost first, with their places."""
    fields = [(inner, places) for inner, places in list_fields({name: body[name]}).items() if inner != name]
    return reversed(fields)
