"""How far a listener has come in the events of each router: what the ids of server-sent events say."""

import re
from collections.abc import Mapping

_MOST_ROUTERS = 16
_LONGEST = 1024
_ONE = re.compile(r"([0-9a-z]{1,32})-([0-9]{1,15})")
_ID_LINE = re.compile(rb"^id: ([0-9a-z]+)-([0-9]+)$", re.MULTILINE)
"""Events are lines of which only this one begins so: their data is JSON in one line."""

Positions = Mapping[str, int]
"""Name of a router's journal → number of the first of its events that the listener has not had."""


def read_positions(event_id: str) -> dict[str, int]:
    """What an id says; nothing for one that is none of ours."""
    if len(event_id) > _LONGEST:
        return {}
    found = [_ONE.fullmatch(each) for each in event_id.split(",")]
    return {each[1]: int(each[2]) for each in found[-_MOST_ROUTERS:] if each}


def write_positions(positions: Positions) -> str:
    """The id that says this."""
    return ",".join(f"{name}-{number}" for name, number in positions.items())


def mark_all(block: bytes, positions: dict[str, int]) -> bytes:
    """The same events, with ids that say how far the listener has come with all routers. Moves `positions` on."""

    def mark(found: re.Match[bytes]) -> bytes:
        positions.pop(name := found[1].decode(), None)
        positions[name] = int(found[2])  # the one that was heard last is the last
        while len(positions) > _MOST_ROUTERS:
            del positions[next(iter(positions))]
        return f"id: {write_positions(positions)}".encode()

    return _ID_LINE.sub(mark, block)
