"""Names the fields of a request's body, and leaves some of them out.

A place is where a field stands, such as ("messages", 0, "content"). Its name has no positions: messages[].content.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

Place = tuple[str | int, ...]

_OWN_CONTENT = frozenset(
    {"schema", "parameters", "input_schema", "arguments", "input", "logit_bias", "metadata", "chat_template_kwargs"}
)
"""Fields whose members are the caller's own, not the API's. (The input of a response is a list, which is entered.)"""
_SCHEMA_IN_FORMAT = "format"  # Ollama's: a schema, unless its type is one that Responses know
_FORMAT_TYPES = frozenset({"text", "json_object", "json_schema"})
_STEP = re.compile(r"[^.\[\]]+")


def list_fields(body: Mapping[str, Any]) -> dict[str, list[Place]]:
    """Maps the name of each field, outer ones before those in them, to the places where it stands."""
    found: dict[str, list[Place]] = {}
    for place in _places(body, ()):
        found.setdefault(name_of(place), []).append(place)
    return found


def name_of(place: Place) -> str:
    """The name of a field, as x-infermesh-ignored-fields has it, but without positions."""
    text = ""
    for step in place:
        text += "[]" if isinstance(step, int) else f".{step}" if text else step
    return text


def without_positions(name: str) -> str:
    """Removes the positions in a name that a server gave: messages[0].content becomes messages[].content."""
    return re.sub(r"\[\d+\]", "[]", name)


def find_place(body: Mapping[str, Any], param: str) -> Place | None:
    """Where the field stands that an error names, as messages[0].content or messages.0.content; None if nowhere.

    A field that is missing in the body, as one that is required, has the place of what it is missing in.
    """
    place: Place = ()
    value: Any = body
    for step in _STEP.findall(param):
        if isinstance(value, dict) and step in value:
            place, value = (*place, step), value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            place, value = (*place, int(step)), value[int(step)]
        else:
            break
    return place or None


def without(body: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """A copy without the field at a place. A list or object that it leaves empty goes with it."""
    copied = copy.deepcopy(dict(body))
    while place:
        *parents, last = place
        holder: Any = copied
        for step in parents:
            holder = holder[step]
        del holder[last]
        if holder or not parents:
            break
        place = tuple(parents)
    return copied


def _places(value: Any, place: Place) -> Iterator[Place]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield (*place, key)
            if not _is_own_content(key, member):
                yield from _places(member, (*place, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _places(item, (*place, position))


def _is_own_content(key: str, member: Any) -> bool:
    if not isinstance(member, dict):
        return False
    return key in _OWN_CONTENT or (key == _SCHEMA_IN_FORMAT and member.get("type") not in _FORMAT_TYPES)
